// SPDX-License-Identifier: MIT OR Apache-2.0
/* The programs of keep.bpf.c for any machine. */
#undef __TARGET_ARCH_x86
#include "keep.bpf.c"

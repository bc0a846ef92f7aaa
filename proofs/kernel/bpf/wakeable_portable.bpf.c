// SPDX-License-Identifier: MIT OR Apache-2.0
/* The programs of wakeable.bpf.c for any machine. */
#undef __TARGET_ARCH_x86
#include "wakeable.bpf.c"

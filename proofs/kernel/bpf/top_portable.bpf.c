// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same for any machine: barriers are instructions. */
#undef __TARGET_ARCH_x86
#include "top.bpf.c"

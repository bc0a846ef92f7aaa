// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same for any machine. */
#undef __TARGET_ARCH_x86
#include "loops_short.bpf.c"

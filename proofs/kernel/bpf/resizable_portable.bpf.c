// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same for any memory order. */
#undef __TARGET_ARCH_x86
#include "resizable.bpf.c"

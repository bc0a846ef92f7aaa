// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same for no machine in particular, which has no nested claims. */
#undef __TARGET_ARCH_x86
#include "nested.bpf.c"

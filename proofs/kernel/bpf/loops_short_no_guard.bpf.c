// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same with claims by compare-and-swap, on every kernel. */
#define TIMES 16
#include "loops_no_guard.bpf.c"

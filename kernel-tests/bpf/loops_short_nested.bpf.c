// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same in programs that can only nest. */
#define TIMES 16
#include "loops_nested.bpf.c"

// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same in loops that verifiers before 5.16 have the patience for. */
#define TIMES 16
#include "loops.bpf.c"

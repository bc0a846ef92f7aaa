// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same in loops short enough for verifiers before 5.16. */
#define TIMES 16
#include "loops.bpf.c"

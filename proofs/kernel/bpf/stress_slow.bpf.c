// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same with some slow claims, so that other programs interrupt them. */
#define SLOW
#include "stress.bpf.c"

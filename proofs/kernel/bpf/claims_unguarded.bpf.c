// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same with claims that tasks which preempt each other must not make. */
#define UNGUARDED
#include "claims.bpf.c"

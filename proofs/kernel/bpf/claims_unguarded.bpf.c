// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same with claims that are wrong for tasks that preempt each other. */
#define UNGUARDED
#include "claims.bpf.c"

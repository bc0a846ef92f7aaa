// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same in a loop, for kernels that preempt programs there. */
#define LINGER
#include "claims.bpf.c"

// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same in a loop, by compare-and-swap. */
#define LINGER
#define MAPRING_NO_GUARD
#include "claims.bpf.c"

// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same with claims by compare-and-swap. */
#define MAPRING_NO_GUARD
#include "contexts.bpf.c"

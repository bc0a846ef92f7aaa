// SPDX-License-Identifier: MIT OR Apache-2.0
/* Both: in a loop, and without the guard. */
#define LINGER
#define UNGUARDED
#include "claims.bpf.c"

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Both. */
#define LINGER
#define UNGUARDED
#include "claims.bpf.c"

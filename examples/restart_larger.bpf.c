// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same after an update: with another ring. */
#define SLOTS 4096
#include "restart.bpf.c"

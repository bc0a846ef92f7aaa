// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same for a ring that wakes its readers: whether one is to be woken takes two jumps more. */
#include <mapring/wakeable.bpf.h>

#define TIMES 1140
#define RING MAPRING_WAKEABLE_RING
#include "longest.bpf.c"

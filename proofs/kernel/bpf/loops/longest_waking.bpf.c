// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same for a ring that wakes its readers: whether one is to be woken takes two jumps more, and a third one before Linux 6.15,
 * whose verifiers do not know that an array has its element 0. */
#define TIMES 1000
#define OPTIONS , WAKEABLE
#include "longest.bpf.c"

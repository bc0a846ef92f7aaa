// SPDX-License-Identifier: MIT OR Apache-2.0
/* For the test of `mapring doctor`: a newer program for the same ring, with other records of the same size. */
#define NEW_VERSION
#include "old_version.bpf.c"

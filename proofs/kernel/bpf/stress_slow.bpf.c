// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same with claims that take long, now and then, so that others come in the midst of them. */
#define SLOW
#include "stress.bpf.c"

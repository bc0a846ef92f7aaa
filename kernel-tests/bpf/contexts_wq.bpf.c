// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same with a program that can have a task of its own call another. */
#define DEFERS bpf_wq_start
#include "contexts.bpf.c"

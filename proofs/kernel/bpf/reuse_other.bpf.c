// SPDX-License-Identifier: MIT OR Apache-2.0
#define OTHER
#include "reuse.bpf.c"

// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same in programs that can only nest, so that their loader gives rings nested claims. */
#define BY_HAND "xdp"
#define ON_EVENT "tc"
#include "loops.bpf.c"

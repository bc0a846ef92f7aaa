// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same for any machine: publishes by release or exchange, not by plain stores. */
#undef __TARGET_ARCH_x86
#include "stress.bpf.c"

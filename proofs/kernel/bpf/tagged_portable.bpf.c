// SPDX-License-Identifier: MIT OR Apache-2.0
/* tagged.bpf.c, for any machine and any license. */
#undef __TARGET_ARCH_x86
#define MAPRING_NO_GUARD
#include "tagged.bpf.c"

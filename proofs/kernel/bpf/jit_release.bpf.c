// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same for machines with a store-release (Linux 6.15). If clang lacks this instruction (before 21 or so, or without
 * -mcpu=v4), it is encoded here. */
#undef __TARGET_ARCH_x86
#ifndef __BPF_FEATURE_LOAD_ACQ_STORE_REL
#define __BPF_FEATURE_LOAD_ACQ_STORE_REL 1
#define __atomic_store_n(word, value, order)                                                \
	do {                                                                                \
		register __u64 *r1 asm("r1") = word;                                        \
		register __u64 r2 asm("r2") = value;                                        \
                                                                                            \
		_Static_assert(order == __ATOMIC_RELEASE, "nothing else is used");          \
		asm volatile(".8byte %[release]"                                            \
			     :                                                              \
			     : "r"(r1), "r"(r2), [release] "i"(MAPRING__ATOMIC(0x110)) \
			     : "memory");                                                   \
	} while (0)
#endif
#include "jit.bpf.c"

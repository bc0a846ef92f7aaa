// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same producer for records from 8 bytes to 4 KiB. */
#include "ringbuf.h"

#define SIZED_RECORDS 64 /* per run: half a shard */

#define SIZED(n)                                                                    \
	struct sized_##n {                                                          \
		__u64 words[n];                                                     \
	};                                                                          \
	MAPRING_RING(ring_##n, struct sized_##n, SIZED_RECORDS * 2);                \
                                                                                    \
	SEC("syscall") int mapring_##n(struct run *run)                             \
	{                                                                           \
		__u64 first = run->first, start = bpf_ktime_get_ns();               \
                                                                                    \
		for (__u32 i = 0; i < SIZED_RECORDS; i++) {                         \
			struct sized_##n *r = mapring_reserve(&ring_##n);           \
                                                                                    \
			if (!r)                                                     \
				return 1;                                           \
			for (__u32 w = 0; w < n; w++)                               \
				r->words[w] = first + i + w;                        \
			mapring_commit(&ring_##n, r);                               \
		}                                                                   \
		run->ns = bpf_ktime_get_ns() - start;                               \
		return 0;                                                           \
	}                                                                           \
                                                                                    \
	SEC("syscall") int ringbuf_##n(struct run *run)                             \
	{                                                                           \
		__u64 first = run->first, start = bpf_ktime_get_ns();               \
                                                                                    \
		for (__u32 i = 0; i < SIZED_RECORDS; i++) {                         \
			struct sized_##n *r = bpf_ringbuf_reserve(&ringbuf, sizeof(*r), 0); \
                                                                                    \
			if (!r)                                                     \
				return 1;                                           \
			for (__u32 w = 0; w < n; w++)                               \
				r->words[w] = first + i + w;                        \
			bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);                    \
		}                                                                   \
		run->ns = bpf_ktime_get_ns() - start;                               \
		return 0;                                                           \
	}

SIZED(1)
SIZED(3)
SIZED(7)
SIZED(15)
SIZED(31)
SIZED(63)
SIZED(127)
SIZED(511)

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A ring whose records have tails, and which wakes readers that sleep. Programs write it like a ring of tails.bpf.h:
 *
 *	MAPRING_WAKEABLE_RING_WITH_TAILS(execs, struct exec, 4096, 1024, 1 << 20);
 *
 * It wakes its readers as a ring of wakeable.bpf.h does, and declares the same two maps beside it: `execs__readers` and
 * `execs__bells`.
 */
#ifndef MAPRING_WAKEABLE_TAILS_BPF_H
#define MAPRING_WAKEABLE_TAILS_BPF_H

#include <mapring/detail/readers.bpf.h>
#include <mapring/tails.bpf.h>

#define MAPRING_WAKEABLE_RING_WITH_TAILS(name, record_type, slots, longest, bytes)                             \
	MAPRING__RING_WITH_TAILS(name, record_type, slots, longest, bytes)                                     \
	MAPRING__READERS_MAPS(name)                                                                            \
	__attribute__((noinline)) int mapring__wake__##name(__u32 number)                                      \
	{                                                                                                      \
		struct mapring_tail_ring__##name *shard = mapring__shard__##name();                            \
                                                                                                               \
		if (shard)                                                                                     \
			mapring__wake(&name##__readers, &name##__bells, mapring__ring__##name(shard),          \
				      shard->header, 0, number);                                               \
		return 0;                                                                                      \
	}                                                                                                      \
	static __always_inline void mapring__ended__##name(struct mapring_tail_ring__##name *shard, __u64 *seq) \
	{                                                                                                      \
		struct mapring__ring ring = mapring__ring__##name(shard);                                      \
		__u64 number = mapring__number(ring, 0, seq);                                                  \
                                                                                                               \
		if (mapring__sleeps(ring, &name##__readers, number))                                           \
			mapring__wake__##name(number);                                                         \
	}                                                                                                      \
	MAPRING__TAILED_ENDS(name, record_type, longest)

#endif

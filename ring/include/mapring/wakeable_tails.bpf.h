/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Rings whose records have tails, and which wake readers that sleep. Programs write them like a ring of tails.bpf.h:
 *
 *	MAPRING_WAKEABLE_RING_WITH_TAILS(execs, struct exec, 4096, 1024, 1 << 20);
 *
 * It wakes its readers as a ring of wakeable.bpf.h does, and declares the same two maps beside it: `execs__readers` and
 * `execs__bells`.
 *
 *	MAPRING_KEEP_OLDEST_RING_WITH_TAILS(opens, struct open, 256, 4096, 1 << 20);
 *
 * It also keeps its oldest records, as a ring of keep_oldest.bpf.h does: while a reader is required, programs drop new records
 * rather than overwrite records *or tails* that this reader has not read. They also check the readers in each eighth of the
 * area. If the area holds at least four of the longest tails, they drop nothing while the slowest required reader has at most
 * a quarter of the area to read. If it has more to read, they may drop records.
 */
#ifndef MAPRING_WAKEABLE_TAILS_BPF_H
#define MAPRING_WAKEABLE_TAILS_BPF_H

#include <mapring/detail/readers.bpf.h>
#include <mapring/tails.bpf.h>

#undef MAPRING_WAKEABLE_RING_WITH_TAILS
#define MAPRING_WAKEABLE_RING_WITH_TAILS(name, record_type, slots, longest, bytes)                             \
	MAPRING__READERS_MAPS(name)                                                                            \
	MAPRING__TAILED_MAP(name, record_type, slots, longest, bytes, 0, 0)                                    \
	MAPRING__RESERVE_WITH_TAIL(name, record_type, slots, bytes, 0)                                         \
	MAPRING__WAKING_TAILED_ENDS(name, record_type, longest)

#undef MAPRING_KEEP_OLDEST_RING_WITH_TAILS
#define MAPRING_KEEP_OLDEST_RING_WITH_TAILS(name, record_type, slots, longest, bytes)                          \
	MAPRING__READERS_MAPS(name)                                                                            \
	MAPRING__TAILED_MAP(name, record_type, slots, longest, bytes, 1, &name##__readers)                     \
	MAPRING__SHARED int mapring__unread__##name(__u64 to)                                        \
	{                                                                                                      \
		struct mapring_tail_ring__##name *shard = mapring__shard__##name();                            \
                                                                                                               \
		return !shard || mapring__tail_unread(mapring__tails__##name(shard), &name##__readers, to);    \
	}                                                                                                      \
	MAPRING__RESERVE_WITH_TAIL(name, record_type, slots, bytes, mapring__unread__##name)                   \
	MAPRING__WAKING_TAILED_ENDS(name, record_type, longest)

#define MAPRING__WAKING_TAILED_ENDS(name, record_type, longest)                                                \
	MAPRING__SHARED int mapring__wake__##name(__u32 number)                                      \
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

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* When records were dropped: two words in the header of each shard. ring/core/src/protocol/ring/produce.rs does the same. */
#ifndef MAPRING_DROPS_BPF_H
#define MAPRING_DROPS_BPF_H

#include <mapring/detail/keep.bpf.h>

/* The words of a shard's header with the times when the latest spell of drops began, and of its last drop so far. */
#define MAPRING__DROPS_SINCE 6
#define MAPRING__DROPS_UNTIL 7
/* Nanoseconds without a drop after which the next drop begins a new spell. */
#define MAPRING__SPELL 1000000000LL

/* Stores the time of a drop, before it is counted, in the shard whose header starts with element `header`, at `head`.
 * If programs interrupt each other here, it is the time of one of them. */
static __always_inline void mapring__time_drop(void *map, __u32 size, __u64 *head, __u32 header)
{
	__u64 *since = mapring__header_word(map, size, head, header, MAPRING__DROPS_SINCE);
	__u64 *until = mapring__header_word(map, size, head, header, MAPRING__DROPS_UNTIL);
	__u64 now = bpf_ktime_get_ns();

	if (!since || !until)
		return;
	if ((__s64)(now - mapring__load(until)) > MAPRING__SPELL)
		mapring__store(since, now);
	mapring__store(until, now);
}

#endif

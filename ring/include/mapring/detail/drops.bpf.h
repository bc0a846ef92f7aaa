/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* When records were dropped: two words in the header of each shard. ring/core/src/protocol/ring/produce.rs does the same. */
#ifndef MAPRING_DROPS_BPF_H
#define MAPRING_DROPS_BPF_H

#include <mapring/detail/keep.bpf.h>

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

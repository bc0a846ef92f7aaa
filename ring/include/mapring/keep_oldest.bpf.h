/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A ring that keeps its oldest records: while a reader is *required* (Reader::require), programs drop new records
 * rather than overwrite records that this reader has not read, and count them. Without required readers, new
 * records overwrite the oldest ones, as in any ring.
 *
 *	MAPRING_KEEP_OLDEST_RING(orders, struct order, 4096);	// slots per CPU
 *
 *	struct order *o = mapring_reserve(&orders);		// NULL: dropped, and counted by cause
 *	if (o) {
 *		o->ns = bpf_ktime_get_ns();
 *		mapring_commit(&orders, o);			// or mapring_discard(&orders, o)
 *	}
 *
 * It also wakes its readers, as a ring of wakeable.bpf.h does, and declares the same two maps beside it:
 * `orders__readers` and `orders__bells`.
 *
 * A program checks the readers at least once in a lap, and each time that it finds the ring full. If a required reader
 * holds programs back for longer than its lease, because it died or is slow, it is no longer required: programs go on.
 */
#ifndef MAPRING_KEEP_OLDEST_BPF_H
#define MAPRING_KEEP_OLDEST_BPF_H

#include <mapring/detail/readers.bpf.h>

#undef MAPRING_KEEP_OLDEST_RING
#define MAPRING_KEEP_OLDEST_RING(name, record_type, slots)                 \
	MAPRING__RING_MAP(keep_ring, name, record_type, slots)             \
	MAPRING__READERS_MAPS(name)                                        \
	MAPRING__RING_API(name, record_type, slots, &name##__readers)      \
	MAPRING__WAKING_ENDS(name, record_type)

#endif

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A ring of records, with one shard per CPU, for any number of readers. New records overwrite the oldest ones.
 *
 *	struct event { __u64 ns; __u32 pid; __u32 pad; };
 *	MAPRING_RING(events, struct event, 4096);		// slots per CPU: a power of two
 *
 *	mapring_record(events, e) {				// skips the block if dropped: counted
 *		e->ns = bpf_ktime_get_ns();
 *	}							// commits; `return` or `break` discard
 *
 * or, where a block does not fit:
 *
 *	struct event *e = mapring_reserve(&events);		// NULL: counted as dropped
 *	if (e) {
 *		e->ns = bpf_ktime_get_ns();
 *		mapring_commit(&events, e);			// or mapring_discard(&events, e)
 *	}
 *	e = mapring_reserve_zeroed(&events);			// the same, filled with zeros
 *	mapring_output(&events, &ready);			// copies a ready record; 0 or -1
 *
 * A reserve never waits, and loads at most about MAPRING__TRIES + log2(slots) slots. It is correct when programs on
 * the same CPU interrupt or preempt each other between any two instructions, NMI included.
 * Every reserve needs a commit or discard. The verifier does not check this. If a program does neither, its slot is lost
 * until the map is recreated: readers and writers step over it. mapring_record can't forget it, and costs the same.
 * A reserved record still holds its slot's old contents: write all of it, or use mapring_reserve_zeroed. mapring_output
 * copies records of at most 1024 bytes, because clang has no memcpy for BPF. Reserve larger records and fill them in
 * place.
 *
 * Options follow the slots, in any order. One that is not there costs nothing:
 *
 *	MAPRING_RING(execs, struct exec, 4096, KEEP_OLDEST, TAILS(4096, 1 << 20), PER_CPU_MAPS);
 *
 * WAKEABLE: programs wake readers that sleep. They do so once for each sleep, not once for each record. They look for
 *	sleeping readers as often as the readers' watermarks request (Reader::with_watermark), or at every record if a
 *	reader has none. A look costs a full barrier, as much as the rest of the record. Any other record costs a few loads
 *	more. This also declares the maps NAME__readers (which readers sleep, and until when) and NAME__bells (a BPF ringbuf
 *	for each reader, by which programs wake it).
 * KEEP_OLDEST: while a reader is required (Reader::require), programs drop new records rather than overwrite records
 *	that this reader has not read, and count them. If it holds programs back for longer than its lease, because it died
 *	or is slow, it is no longer required: programs go on. It includes WAKEABLE.
 * TAILS(longest, bytes): each record has a tail, bytes of any length up to the longest, which helpers write in place. See
 *	below.
 * PER_CPU_MAPS: each shard is a map of its own, on the NUMA node of its CPU, and only CPUs that are online need one.
 *	Records of a CPU without a map are dropped, and counted. All maps have one size, so the kernel inlines their lookups:
 *	finding the map costs 0.2 ns of 7 ns. The node matters once records have left the caches: for rings larger than these,
 *	and for readers that run on the node (Ring::reader_of_node).
 * RESIZABLE: a larger or smaller ring can replace this one while programs write (Ring::resize). A reserve costs more, and the
 *	verifier checks the slow path at each of them (for loops of hundreds, use bpf_loop or a global function). It takes no
 *	other option except WAKEABLE: programs then look for sleeping readers at every record.
 *
 * The loader makes and links the maps (mapring_loader::initialize).
 *
 * With TAILS:
 *
 *	void *tail;
 *	long len = 0;
 *	mapring_record_with_tail(execs, e, tail, len) {				// skips the block if dropped: counted
 *		e->ns = bpf_ktime_get_ns();
 *		len = bpf_probe_read_user_str(tail, 4096, filename);
 *	}									// commits; `return` or `break` discard
 *
 *	struct exec *e = mapring_reserve(&execs);				// where a block does not fit
 *	if (e) {
 *		e->ns = bpf_ktime_get_ns();
 *		mapring_commit_tail(&execs, e, bpf_probe_read_user_str(mapring_tail(&execs, e), 4096, filename));
 *	}
 *	mapring_commit_tail_cut(&execs, e, len);				// a longer tail is cut to the longest
 *	mapring_commit(&execs, e);						// an empty tail
 *
 * The verifier lets helpers write up to the longest tail. A commit gives the rest back, so short tails take their own length,
 * in steps of 16 bytes. A negative length (a helper's error) is an empty tail. A length above the maximum is refused: the
 * record is discarded and counted, and the commit returns -1.
 * New tails overwrite the oldest ones; a record whose tail was overwritten is lost, and counted by readers. A program may be
 * interrupted, be preempted, and sleep between reserve and commit: no other program overwrites its tail. Up to 16 programs of
 * a CPU may be there at once; others leave their bytes out. A missing commit costs its slot, the longest tail of the area, and
 * one of the 16 for good.
 *
 * On x86-64 with Linux 6.10 or later, plain stores claim slots and tails with preemption disabled (the guard). Otherwise a
 * compare-and-swap does (Linux 5.12). A program that isn't GPL-compatible, or that aya loads, needs
 * `#define MAPRING_NO_GUARD` before the include, and uses the compare-and-swap, which costs about 3 ns more. Without it
 * the kernel says "cannot call kernel function from non-GPL compatible program".
 *
 * Several files that libbpf's linker links may declare the same ring: put it in a header of yours. It becomes one ring. Not
 * with PER_CPU_MAPS or RESIZABLE: libbpf knows no extern map of maps that has an initial value.
 *
 * ring/core/src/protocol/ring/ is the same protocol in Rust.
 */
#ifndef MAPRING_RING_BPF_H
#define MAPRING_RING_BPF_H

#include <mapring/detail/replace.bpf.h>
#include <mapring/detail/tails.bpf.h>

#undef MAPRING_RING
#define MAPRING_RING(name, record_type, slots, ...) MAPRING__RING(name, record_type, slots, ##__VA_ARGS__, , , , , , )

#define MAPRING__RING(name, record_type, slots, a, b, c, d, e, f, ...)                                        \
	MAPRING__OPTION_CHECKS(name, MAPRING__BITS(a, b, c, d, e, f))                                         \
	MAPRING__RING_CHECKS(name, record_type, slots)                                                        \
	MAPRING__PART(RING, MAPRING__ASK(PLACE, ONE_MAP, a, b, c, d, e, f))(                                  \
		name, record_type, slots, MAPRING__ASK(RECORD, PLAIN, a, b, c, d, e, f),                      \
		MAPRING__ASK(LONGEST, 0, a, b, c, d, e, f), MAPRING__ASK(AREA, 0, a, b, c, d, e, f),          \
		MAPRING__ASK(WAKES, NO, a, b, c, d, e, f), MAPRING__ASK(KEEPS, NO, a, b, c, d, e, f),         \
		MAPRING__BITS(a, b, c, d, e, f))

#define MAPRING__RING_ONE_MAP(...) MAPRING__RING_IN(ONE_MAP, __VA_ARGS__)
#define MAPRING__RING_PER_CPU_MAPS(...) MAPRING__RING_IN(PER_CPU_MAPS, __VA_ARGS__)

#define MAPRING__RING_IN(place, name, record_type, slots, record, longest, bytes, wakes, keeps, bits)         \
	MAPRING__PART(VALUE, record)(name, record_type, slots, longest, bytes, bits)                          \
	MAPRING__MAP_CHECKS(ring, name);                                                                      \
	MAPRING__PART(MAPS, place)(name, MAPRING__PART(ENTRIES, record)(name, slots))                         \
	MAPRING__PART(READERS_MAPS, wakes)(name)                                                              \
	MAPRING__PART(SHARD, MAPRING__JOIN(place, record))(name, slots, MAPRING__PART(LIMITS, keeps)(name))   \
	MAPRING__PART(LOOK, wakes)(name)                                                                      \
	MAPRING__PART(RESERVE, record)(name, record_type, slots, longest, bytes, keeps)                       \
	MAPRING__PART(ENDS, record)(name, record_type, wakes, longest)

#define MAPRING__RING_RESIZABLE(name, record_type, slots, record, longest, bytes, wakes, keeps, bits)         \
	MAPRING__VALUE_PLAIN(name, record_type, slots, 0, 0, bits)                                            \
	MAPRING__MAP_CHECKS(ring, name);                                                                      \
	MAPRING__MAPS_RESIZABLE(name, MAPRING__ENTRIES_PLAIN(name, slots))                                    \
	MAPRING__PART(READERS_MAPS, wakes)(name)                                                              \
	MAPRING__PART(WAKE_REPLACEABLE, wakes)(name)                                                          \
	MAPRING__RESERVE_REPLACEABLE(name, record_type, wakes)                                                \
	MAPRING__PART(ENDS_REPLACEABLE, wakes)(name, record_type)

#define MAPRING__LIMITS_NO(name) 0
#define MAPRING__LIMITS_YES(name) &name##__readers
#define MAPRING__JOIN(place, record) MAPRING__JOIN_OF(place, record)
#define MAPRING__JOIN_OF(place, record) place##_##record

#endif

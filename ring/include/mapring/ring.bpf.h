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
 * Every reserve needs a commit or discard. The verifier does not check this. A record without either makes its slot
 * unusable for good (readers and writers step over it). mapring_record can't forget it, and costs the same.
 * A reserved record still holds its slot's old contents: write all of it, or use mapring_reserve_zeroed. mapring_output
 * copies records of at most 1024 bytes, because clang has no memcpy for BPF. Reserve larger records and fill them in
 * place.
 *
 * On x86-64 with Linux 6.10 or later, plain stores claim the slot with preemption disabled (the guard). Otherwise a
 * compare-and-swap does (Linux 5.12). A program that isn't GPL-compatible, or that aya loads, needs
 * `#define MAPRING_NO_GUARD` before the include, and uses the compare-and-swap, which costs about 3 ns more. Without it
 * the kernel says "cannot call kernel function from non-GPL compatible program".
 *
 * Several files that libbpf's linker links may declare the same ring: put it in a header of yours. It becomes one ring.
 *
 * docs/guarantees.md says why the protocol is correct. ring/src/protocol/ring/ is the same in Rust.
 */
#ifndef MAPRING_RING_BPF_H
#define MAPRING_RING_BPF_H

#include <mapring/detail/claim.bpf.h>

#undef MAPRING_RING
#define MAPRING_RING(name, record_type, slots)         \
	MAPRING__RING(name, record_type, slots)        \
	MAPRING__ENDS(name, record_type)               \
	MAPRING__OUTPUT(name, record_type)

/* Its map, and mapring_reserve. */
#define MAPRING__RING(name, record_type, slots)                \
	MAPRING__RING_MAP(ring, name, record_type, slots)      \
	MAPRING__RING_API(name, record_type, slots, 0)

#define MAPRING__RING_MAP(kind, name, record_type, slots)                              \
	struct mapring_##kind##__##name {                                              \
		__u64 seq;                                                             \
		record_type record;                                                    \
		MAPRING__TAG(slots);                                                   \
	};                                                                             \
	MAPRING__RING_CHECKS(name, record_type, slots)                                 \
	MAPRING__MAP(kind, name,                                                       \
		     MAPRING__FIRST(sizeof(struct mapring_##kind##__##name)) +         \
			     MAPRING__SHARD(sizeof(struct mapring_##kind##__##name), slots));

/* The slow path is a separate function: the verifier checks it once, and the fast path stays short. */
#define MAPRING__RING_API(name, record_type, slots, readers)                                          \
	static __always_inline struct mapring__ring mapring__ring__##name(void)                       \
	{                                                                                             \
		/* No local name here may also be a map's name. */                                    \
		return (struct mapring__ring){ &name, sizeof(*((struct mapring_map__##name *)0)->value), \
					       MAPRING__LOG2(slots), readers };                       \
	}                                                                                             \
	MAPRING__SHARED __s64 mapring__claim__##name(__u32 base)                            \
	{                                                                                             \
		return mapring__claim(mapring__ring__##name(), mapring__word(&name, base), base);                                 \
	}                                                                                             \
	MAPRING__FN record_type *mapring_reserve(struct mapring_map__##name *map __attribute__((unused))) \
	{                                                                                             \
		struct mapring__ring ring = mapring__ring__##name();                                  \
		__u32 base = mapring__base(ring);                                                     \
                                                                                                      \
		MAPRING__RESERVE(record_type, ring, base, slots, mapring__claim__##name(base));              \
	}

#endif

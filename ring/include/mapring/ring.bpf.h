/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A ring of records that overwrites the oldest, one shard a CPU, for any number of readers.
 *
 *	struct event { __u64 ns; __u32 pid; __u32 pad; };
 *	MAPRING_RING(events, struct event, 4096);		// slots a CPU: a power of two
 *
 *	struct event *e = mapring_reserve(&events);		// NULL: counted as dropped
 *	if (e) {
 *		e->ns = bpf_ktime_get_ns();
 *		mapring_commit(e);				// or mapring_discard(e)
 *	}
 *	mapring_output(&events, &ready);			// a copy of a ready record; 0 or -1
 *
 * Guarantees: never waits; at most about MAPRING__TRIES + log2(slots) looks; correct when programs
 * on the same CPU interrupt or preempt each other between any two instructions, NMI included.
 * Every reserve must be followed by commit or discard: the verifier does not check it, and a
 * record that is never ended costs its slot for good (readers and writers step over it).
 * A reserved record holds what its slot held before: fill all of it. mapring_output copies records of at
 * most 1024 bytes, as clang has no memcpy for BPF: reserve larger ones and fill them in place.
 *
 * On x86-64 with Linux 6.10, two plain stores claim the slot while preemption is off (the guard); otherwise
 * a compare-and-swap (Linux 5.12). A program that isn't GPL-compatible, or that aya loads, needs
 * `#define MAPRING_NO_GUARD` before the include, and uses the compare-and-swap.
 *
 * The protocol, and why it is right: docs/guarantees.md; the same in Rust: ring/src/protocol/ring/.
 */
#ifndef MAPRING_RING_BPF_H
#define MAPRING_RING_BPF_H

#include <mapring/claim.bpf.h>

#define MAPRING_RING(name, record_type, slots)                                         \
	struct mapring_ring__##name {                                                  \
		__u64 seq;                                                             \
		record_type record;                                                    \
		MAPRING__TAG(slots);                                                   \
	};                                                                             \
	MAPRING__RING_CHECKS(name, record_type, slots)                                 \
	MAPRING__MAP(ring, name,                                                       \
		     MAPRING__FIRST(sizeof(struct mapring_ring__##name)) +             \
			     MAPRING__SHARD(sizeof(struct mapring_ring__##name), slots)); \
	MAPRING__RING_API(name, record_type, slots)                                    \
	MAPRING__OUTPUT(name, record_type)

/* The slow path is a function of its own so that it is verified once and the fast one stays short. */
#define MAPRING__RING_API(name, record_type, slots)                                                   \
	static __always_inline struct mapring__ring mapring__ring__##name(void)                       \
	{                                                                                             \
		/* Nothing here may be called as a map may be called. */                              \
		return (struct mapring__ring){ &name, sizeof(struct mapring_ring__##name),            \
					       MAPRING__LOG2(slots) };                                \
	}                                                                                             \
	__attribute__((noinline)) __s64 mapring__claim__##name(__u32 base)                            \
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

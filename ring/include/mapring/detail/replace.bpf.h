/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reserves records in a ring that another one can replace. If that happens while a program claims a slot, the program gives
 * the slot back as discarded, and claims a slot of the new ring. A retired ring without reserved slots never gets another
 * record. ring/core/src/protocol/ring/retire.rs explains the
 * protocol. A claim here is always by compare-and-swap: it must be a full barrier before the second load of the gate.
 */
#ifndef MAPRING_REPLACE_BPF_H
#define MAPRING_REPLACE_BPF_H

#include <mapring/detail/records.bpf.h>

/* MAPRING__PROGRAM_GATE says whether the ring is in use, and where its slots are: the element of the first slot from bit 32
 * on, the epoch (how many rings were there before it) from bit 13 on, log2 of the number of slots from bit 8 on, and
 * MAPRING__GATE_OPEN. */

/* The ring that is in use, as a program found it. */
struct mapring__in_use {
	struct mapring__ring ring;
	__u64 *head;
	__u64 *gate;
	__u64 open;
	__u32 header;
	__u32 base; /* as if a header came right before the slots */
};

/* Finds the ring in use. Returns 0 if no ring exists, or if it is no longer in use. */
static __always_inline int mapring__find(void *rings, __u32 size, struct mapring__in_use *found)
{
	found->ring = (struct mapring__ring){ .map = mapring__word(rings, 0), .size = size };
	if (!found->ring.map)
		return 0;
	/* The headers of all shards come before the slots, at the same place in every such ring. */
	found->header = MAPRING__FIRST(size) + bpf_get_smp_processor_id() * MAPRING__HEADER(size);
	found->head = mapring__word(found->ring.map, found->header);
	if (!found->head)
		return 0;
	found->gate = found->head;
	if (size < (MAPRING__PROGRAM_GATE + 1) * 8) { /* a header of several elements */
		found->gate = mapring__word(found->ring.map, found->header + MAPRING__PROGRAM_GATE * 8 / size);
		if (!found->gate)
			return 0;
	}
	found->gate += MAPRING__PROGRAM_GATE * 8 % size / 8;
	found->open = mapring__load(found->gate);
	found->ring.shift = found->open >> 8 & 31;
	found->base = (found->open >> 32) - MAPRING__HEADER(size);
	return (found->open & 0xff) == MAPRING__GATE_OPEN;
}

/*
 * Returns 1 if the ring is still in use: the claim is valid. Otherwise gives the slot back, and returns 0.
 * SYNC retire: the claim, a full barrier, comes before this load; pairs with the fence between
 * closing the gate and looking for claims (ring/core/src/protocol/ring/retire.rs).
 */
static __always_inline int mapring__holds(const struct mapring__in_use *found, __u64 *seq)
{
	if (mapring__load(found->gate) == found->open)
		return 1;
	mapring__end(seq + 1, MAPRING__DISCARDED);
	return 0;
}

/* Claims in the ring that is in use now, after the ring found before was replaced. This ring is new, so the fast
 * path is enough. */
static __always_inline __u64 *mapring__claim_anew(void *rings, __u32 size)
{
	struct mapring__in_use found;
	__u64 *seq;

	mapring__barrier(); /* SYNC replaced: a program that saw the gate closed sees the next ring */
	if (mapring__find(rings, size, &found)) {
		seq = mapring__fast(found.ring, found.head, found.base, 0);
		if (seq && mapring__holds(&found, seq))
			return seq;
	}
	if (found.ring.map)
		mapring__count_out_of_range(found.ring.map, size);
	return 0;
}

/*
 * Whether a reader that sleeps until a ticket has ended is to be woken. It says the ticket with the epoch of its ring in the
 * highest 19 bits. If that is another ring than the one in use, it is to be woken: no further record is written to its ring,
 * or its ring came later than the record that has just ended.
 */
static __always_inline int mapring__is_due(const struct mapring__in_use *found, __u64 ticket)
{
	__u64 next = mapring__load(found->head);

	if ((found->open & 0xff) != MAPRING__GATE_OPEN || (ticket ^ (found->open >> 13 << 45)) >> 45)
		return 1;
	/* The nearest ticket with these bits. */
	ticket = next + ((__s64)((ticket - next) << 19) >> 19);
	return mapring__reached(found->ring, found->head, found->base, ticket);
}

/* What follows from a claim, and the functions that wake readers. The program that claims the last slot of a lap checks
 * whether readers still sleep now and then: at the end of a record, no program knows in which slot it is. */
#define MAPRING__LAP_NO(name, found)
#define MAPRING__LAP_YES(name, found)                                                                         \
	if (!(mapring__load(found.head) & ((1ULL << found.ring.shift) - 1)))                                  \
		mapring__wake__##name(1);

#define MAPRING__WAKE_REPLACEABLE_NO(name)
#define MAPRING__WAKE_REPLACEABLE_YES(name)                                                                   \
	MAPRING__SHARED int mapring__is_due__##name(__u64 ticket)                                             \
	{                                                                                                     \
		struct mapring__in_use found = {};                                                            \
                                                                                                              \
		mapring__find(&name, sizeof(struct mapring_ring__##name), &found);                            \
		return !found.head || mapring__is_due(&found, ticket);                                        \
	}                                                                                                     \
	MAPRING__SHARED int mapring__wake__##name(__u32 lap)                                                  \
	{                                                                                                     \
		/* As in a ring of two slots, whose last slot has number 1. */                                \
		struct mapring__ring ring = { 0, 0, 1, 0 };                                                   \
		__u64 unused = 0;                                                                             \
                                                                                                              \
		mapring__wake(&name##__readers, &name##__bells, ring, &unused, 0, lap, mapring__is_due__##name); \
		return 0;                                                                                     \
	}

#define MAPRING__ENDS_REPLACEABLE_NO(name, record_type) MAPRING__ENDS_PLAIN(name, record_type, NO, 0)
#define MAPRING__ENDS_REPLACEABLE_YES(name, record_type) MAPRING__ENDS_PLAIN(name, record_type, REPLACEABLE, 0)

/* The slow path is checked at each place that reserves a record, since the verifier knows no map of the ring in use. */
#define MAPRING__RESERVE_REPLACEABLE(name, record_type, wakes)                                                \
	static __attribute__((noinline)) __s64 mapring__claim__##name(void *map, __u32 header, __u32 base, __u32 shift) \
	{                                                                                                     \
		struct mapring__ring ring = { map, sizeof(struct mapring_ring__##name), shift, 0 };           \
		__u64 *head = mapring__word(map, header);                                                     \
		__s64 claimed;                                                                                \
                                                                                                              \
		if (!head)                                                                                    \
			return -1;                                                                            \
		claimed = mapring__search(ring, head, base, 0);                                               \
		mapring__count_drop(ring, head, header, claimed);                                             \
		return claimed;                                                                               \
	}                                                                                                     \
	MAPRING__FN record_type *mapring_reserve(struct mapring_map__##name *map)                             \
	{                                                                                                     \
		const __u32 size = sizeof(struct mapring_ring__##name);                                       \
		struct mapring__in_use found;                                                                 \
		__u64 *seq = 0;                                                                               \
                                                                                                              \
		if (mapring__find(map, size, &found)) {                                                       \
			seq = mapring__fast(found.ring, found.head, found.base, 0);                           \
			if (!seq) {                                                                           \
				__s64 claimed = mapring__claim__##name(found.ring.map, found.header,          \
								       found.base, found.ring.shift);         \
				if (claimed < 0)                                                              \
					return 0;                                                             \
				seq = mapring__slot(found.ring, found.base, claimed);                         \
				if (!seq)                                                                     \
					return 0;                                                             \
			}                                                                                     \
			MAPRING__PART(LAP, wakes)(name, found)                                                \
		}                                                                                             \
		if (!seq || !mapring__holds(&found, seq))                                                     \
			seq = mapring__claim_anew(map, size);                                                 \
		if (!seq)                                                                                     \
			return 0;                                                                             \
		/* The verifier needs the addition to stay behind the checks. */                              \
		asm volatile("" : "+r"(seq));                                                                 \
		return (record_type *)(seq + 1);                                                              \
	}

#endif

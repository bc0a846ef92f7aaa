/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * How a slot of a ring is claimed, whatever the ring: ring.bpf.h and resizable.bpf.h make the maps
 * and the functions that programs call. The protocol, and why it is right: docs/guarantees.md; the
 * same in Rust: ring/src/protocol/ring/.
 */
#ifndef MAPRING_CLAIM_BPF_H
#define MAPRING_CLAIM_BPF_H

#include <mapring/atomic.bpf.h>

/* Set in `seq` beside the published state: the ticket ended without a record. */
#define MAPRING__DISCARDED (1ULL << 63)
/* Set in `head` while a nested claim (see below) is being made. */
#define MAPRING__PENDING (1ULL << 63)
/* How many slots a claim tries before it gives up and counts the record as dropped. */
#define MAPRING__TRIES 6
/* How many of them one by one, before it looks for the end of the ring by bisection. */
#define MAPRING__WALK 2

/* A ring: its map, the bytes of an element, log2 of the slots a shard, whether claims are nested.
 * The compiler knows all of it, but for what a resizable ring has found out. */
struct mapring__ring {
	void *map;
	__u32 size;
	__u32 shift;
	__u32 nests;
};

#define MAPRING__LOG2(n) ((__u32)(63 - __builtin_clzll(n)))

/* With n = 2^k slots, ticket t lives in slot t mod n, in lap L = t >> k: free for t while
 * seq <= 2L and even, 2L+1 while t is written, 2L+2 when it is published. */
static __always_inline __u64 mapring__lap(struct mapring__ring ring, __u64 t)
{
	return (t >> ring.shift) * 2;
}

/* The element of this CPU's shard that holds its header, which the slots follow. */
static __always_inline __u32 mapring__base(struct mapring__ring ring)
{
	return MAPRING__FIRST(ring.size) + bpf_get_smp_processor_id() * MAPRING__SHARD(ring.size, 1ULL << ring.shift);
}

/* The `seq` of ticket t; NULL beyond the map. */
static __always_inline __u64 *mapring__slot(struct mapring__ring ring, __u32 base, __u64 t)
{
	__u32 slot = (__u32)t & ((1ULL << ring.shift) - 1);

	return mapring__word(ring.map, base + (__u32)MAPRING__HEADER(ring.size) + slot);
}

/* Claims a slot if it is free for a ticket of this lap: 0, else the state that it is in. */
static __always_inline __u64 mapring__take(__u64 *seq, __u64 lap)
{
	/* An odd one, which is being written, can't be what the cmpxchg finds: it never goes back. */
	__u64 found = mapring__load(seq), even = found & ~1ULL;

	if ((even & ~MAPRING__DISCARDED) <= lap) {
		MAPRING__IN_CLAIM;
		found = mapring__cmpxchg(seq, even, lap + 1);
		if (found == even)
			return 0;
	}
	return found & ~MAPRING__DISCARDED;
}

/*
 * The nested claim: without a locked instruction, for producers that can interrupt each other but
 * never be preempted, so that whoever interrupts ends first. A loader that can show that sets the
 * constant (mapring::fit_to_machine), and the verifier removes the other claim.
 *
 * `head` goes on, marked as pending, *before* the slot is looked at: who interrupts between the
 * look and the store finds a later ticket, and the mark. Within a lap it does not meet the slot;
 * beyond, it finds the slot behind, which nobody claims who saw the mark: `seq` never goes back.
 * Without the mark no claim is under way below, and slots left behind are claimed as ever.
 */
#if defined(__TARGET_ARCH_x86) && defined(MAPRING_NESTED_ONLY)
/* No other claim is compiled: for Linux before 5.12, which has none of its instructions. The
 * constant says that a loader has shown that it may be made; without that nobody writes. */
#define MAPRING__NESTED(name) const volatile __u32 mapring__nested_only__##name = 0;
#define MAPRING__NESTS(name) 1
#define MAPRING__MAY_CLAIM(name) (mapring__nested_only__##name)
#elif defined(__TARGET_ARCH_x86) /* where stores are seen in order: claim, record, publication */
#define MAPRING__NESTED(name) const volatile __u32 mapring__nested__##name = 0;
#define MAPRING__NESTS(name) (mapring__nested__##name)
#define MAPRING__MAY_CLAIM(name) 1
#else
#define MAPRING__NESTED(name)
#define MAPRING__NESTS(name) 0
#define MAPRING__MAY_CLAIM(name) 1
#endif

/* As mapring__take, for ticket t; `pending` is what the mark was when this claim began. */
static __always_inline __u64 mapring__take_nested(__u64 *head, __u64 t, __u64 pending, __u64 *seq, __u64 lap)
{
	__u64 found;

	mapring__store(head, (t + 1) | MAPRING__PENDING);
	found = mapring__load(seq) & ~MAPRING__DISCARDED;
	if (found == lap || (!pending && found < lap && !(found & 1))) {
		MAPRING__IN_CLAIM;
		mapring__store(seq, lap + 1);
		return 0;
	}
	return found ? found : 1; /* behind, and not to be had */
}

#define MAPRING__TAKE(ring) \
	((ring).nests ? mapring__take_nested(head, t, pending, seq, lap) : mapring__take(seq, lap))

/*
 * The slow path: `head` was not the next free ticket. Returns the ticket that it claimed, or -1,
 * counted. Its loops stand one after the other, because the verifier multiplies nested ones.
 */
static __always_inline __s64 mapring__claim(struct mapring__ring ring, __u64 *head, __u32 base)
{
	__u64 *seq, start, t, lap, state, pending = 0;

	if (!head) { /* a CPU beyond the last shard */
		mapring__astray(ring.map, ring.size);
		return -1;
	}
	start = mapring__load(head);
	if (ring.nests)
		pending = start & MAPRING__PENDING;
	t = start ^ pending;
	/* Taken by a nested program, or still being written one lap behind: walk. */
	for (__u32 i = 0; i < MAPRING__WALK; i++, t++) {
		seq = mapring__slot(ring, base, t);
		if (!seq)
			goto dropped;
		lap = mapring__lap(ring, t);
		state = MAPRING__TAKE(ring);
		if (!state)
			goto claimed;
		if (state > lap + 2)
			break;
	}
	seq = mapring__slot(ring, base, t);
	if (!seq)
		goto dropped;
	state = mapring__load(seq) & ~MAPRING__DISCARDED;
	if (state > mapring__lap(ring, t)) {
		/* Far behind. The last ticket of this slot is taken, and so are all up to the end,
		 * which lies less than a lap on: bisect. */
		t = ((state - 1) >> 1 << ring.shift) | (t & ((1ULL << ring.shift) - 1));
		for (__u32 bit = (1ULL << ring.shift) >> 1; bit; bit >>= 1) {
			__u64 mid = t + bit, ahead;
			seq = mapring__slot(ring, base, mid);
			if (!seq)
				goto dropped;
			/* 1 if taken, else 0; opaque at each step, or clang and the verifier make
			 * branches of it and take both. */
			ahead = mapring__lap(ring, mid) - (mapring__load(seq) & ~MAPRING__DISCARDED);
			asm volatile("" : "+r"(ahead));
			ahead >>= 63;
			asm volatile("" : "+r"(ahead));
			t += bit * ahead;
		}
		t++;
	}
	for (__u32 i = MAPRING__WALK; i < MAPRING__TRIES; i++, t++) {
		seq = mapring__slot(ring, base, t);
		if (!seq)
			goto dropped;
		lap = mapring__lap(ring, t);
		if (!MAPRING__TAKE(ring))
			goto claimed;
	}
dropped:
	/* Stuck slots in a row, or an end further on than they and a stale `head` let us find: the
	 * next claim goes on from here. A smaller ring was searched all round. */
	if ((1ULL << ring.shift) > MAPRING__TRIES)
		mapring__store(head, t | pending);
	else if (ring.nests)
		mapring__store(head, start);
	mapring__count(head + 1, 1);
	return -1;
claimed:
	mapring__store(head, (t + 1) | pending);
	return (__s64)t;
}

/* The fast paths: the slot's `seq` if `head` was the next free ticket, else NULL. */
static __always_inline __u64 *mapring__fast(struct mapring__ring ring, __u64 *head, __u32 base)
{
	__u64 *seq, t, lap;

	if (!head)
		return 0;
	t = mapring__load(head);
	lap = mapring__lap(ring, t);
	seq = mapring__slot(ring, base, t);
	MAPRING__IN_CLAIM;
	if (!seq || mapring__cmpxchg(seq, lap, lap + 1) != lap)
		return 0;
	mapring__store(head, t + 1);
	return seq;
}

static __always_inline __u64 *mapring__fast_nested(struct mapring__ring ring, __u32 base)
{
	__u64 *head = mapring__word(ring.map, base), *seq, t, lap;

	if (!head)
		return 0;
	t = mapring__load(head);
	lap = mapring__lap(ring, t);
	seq = mapring__slot(ring, base, t);
	if (!seq || (t & MAPRING__PENDING))
		return 0;
	mapring__store(head, (t + 1) | MAPRING__PENDING);
	if (mapring__load(seq) != lap) {
		mapring__store(head, t);
		return 0;
	}
	MAPRING__IN_CLAIM;
	mapring__store(seq, lap + 1);
	mapring__store(head, t + 1);
	return seq;
}

/* The end of a reserve: the record, by the fast path or by the slow one, which `claim` calls; NULL: dropped. */
#define MAPRING__RESERVE(record_type, ring, base, claim)                                             \
	do {                                                                                         \
		__u64 *seq = (ring).nests ? mapring__fast_nested(ring, base) :                       \
					    mapring__fast(ring, mapring__word((ring).map, base), base); \
                                                                                                     \
		if (!seq) {                                                                          \
			__s64 claimed = claim;                                                       \
			if (claimed < 0)                                                             \
				return 0;                                                            \
			seq = mapring__slot(ring, base, claimed);                                    \
			if (!seq)                                                                    \
				return 0;                                                            \
		}                                                                                    \
		/* The addition stays behind the checks: the verifier wants that order. */           \
		asm volatile("" : "+r"(seq));                                                        \
		return (record_type *)(seq + 1);                                                     \
	} while (0)

/* Publishes a reserved record: from here on readers see it, whole. */
static __always_inline void mapring_commit(void *record)
{
	__u64 *seq = (__u64 *)record - 1;

	mapring__publish(seq, mapring__load(seq) + 1);
}

/* Ends a reserved record without publishing it: readers pass over it and count nothing lost. */
static __always_inline void mapring_discard(void *record)
{
	__u64 *seq = (__u64 *)record - 1;

	mapring__publish(seq, (mapring__load(seq) + 1) | MAPRING__DISCARDED);
}

/* A copy of a ready record, by the mapring_reserve of its map. */
#define MAPRING__OUTPUT(name, record_type)                                                         \
	MAPRING__COPIES(record_type, "reserve the record and fill it in place")                    \
	MAPRING__FN long mapring_output(struct mapring_map__##name *map, const record_type *ready) \
	{                                                                                          \
		record_type *record = mapring_reserve(map);                                        \
                                                                                                   \
		if (!record)                                                                       \
			return -1;                                                                 \
		__builtin_memcpy(record, ready, sizeof(*record));                                  \
		mapring_commit(record);                                                            \
		return 0;                                                                          \
	}

/* What a ring can be made of. */
#define MAPRING__RING_CHECKS(name, record_type, slots)                                   \
	_Static_assert((slots) > 0 && ((slots) & ((slots) - 1)) == 0,                    \
		       "mapring: the slots of ring " #name " must be a power of two");   \
	_Static_assert(_Alignof(record_type) <= 8, "mapring: records are aligned to 8 at most");

#endif

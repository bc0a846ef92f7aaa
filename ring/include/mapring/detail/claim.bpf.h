/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Claims slots, for every ring. place.bpf.h defines the maps, and records.bpf.h the functions that programs call.
 * ring/core/src/protocol/ring/ has the claim by compare-and-swap in Rust.
 */
#ifndef MAPRING_CLAIM_BPF_H
#define MAPRING_CLAIM_BPF_H

#include <mapring/detail/drops.bpf.h>
#include <mapring/detail/keep.bpf.h>

/* A ring: its map, the bytes of an element, log2 of the slots per shard. All of these are constants for the
 * compiler, except for those that a resizable or PER_CPU_MAPS ring looks up. In a ring with tails slots are not elements:
 * `map` is the shard's first slot, and `size` the bytes of a slot with MAPRING__IN_SHARD. A ring that keeps its oldest
 * records has the map of its readers. */
struct mapring__ring {
	void *map;
	__u32 size;
	__u32 shift;
	void *readers;
};

#define MAPRING__IN_SHARD (1U << 31)

#define MAPRING__LOG2(n) ((__u32)(63 - __builtin_clzll(n)))

/* With n = 2^k slots, ticket t has slot t mod n, in lap L = t >> k. The slot is free for t while seq is even and
 * at most 2L. seq is 2L+1 while t is being written, and 2L+2 when t is published. */
static __always_inline __u64 mapring__lap(struct mapring__ring ring, __u64 t)
{
	return (t >> ring.shift) * 2;
}

/* The element of this CPU's shard with its header, in a map with all shards. The slots follow the header. */
static __always_inline __u32 mapring__base(__u32 size, __u64 slots)
{
	return MAPRING__FIRST(size) + bpf_get_smp_processor_id() * MAPRING__SHARD(size, slots);
}

/* The `seq` of ticket t. NULL if it is outside of the map. */
static __always_inline __u64 *mapring__slot(struct mapring__ring ring, __u32 base, __u64 t)
{
	__u32 slot = (__u32)t & ((1ULL << ring.shift) - 1);

	if (ring.size & MAPRING__IN_SHARD)
		return (__u64 *)ring.map + slot * (ring.size % MAPRING__IN_SHARD / 8);
	return mapring__word(ring.map, base + (__u32)MAPRING__HEADER(ring.size) + slot);
}

/*
 * The number of the slot with this `seq` in its shard: the low bits of its ticket. Without a branch, as the verifier refuses
 * loops with 8192 of them: it allows the difference of two pointers also where one may be NULL, and element 0 is there.
 */
static __always_inline __u64 mapring__number(struct mapring__ring ring, __u32 base, __u64 *seq)
{
	__u64 words = ring.size % MAPRING__IN_SHARD / 8;

	if (ring.size & MAPRING__IN_SHARD)
		return ((__u64)seq - (__u64)ring.map) / 8 / words;
	/* A division, as a multiplication: exact for a multiple of `words` below 2^32. */
	return (((__u64)seq - (__u64)mapring__word(ring.map, 0)) / 8 * ((1ULL << 32) / words + 1) >> 32) - base -
	       MAPRING__HEADER(ring.size);
}

/* The word of the header with the limit, of a ring that keeps its oldest records. */
static __always_inline __u64 *mapring__limit_word(struct mapring__ring ring, __u64 *head, __u32 base)
{
	return mapring__header_word(ring.map, ring.size, head, base, MAPRING__LIMIT);
}

/* Whether ticket t is beyond the limit, as far as known: then only the slow path may claim it. */
static __always_inline int mapring__is_beyond(struct mapring__ring ring, __u64 *head, __u32 base, __u64 t)
{
	__u64 *limit;

	if (!ring.readers)
		return 0;
	limit = mapring__limit_word(ring, head, base);
	return !limit || (__s64)(t - mapring__load(limit)) >= 0;
}

/*
 * The guard: between its two calls no other program runs on this CPU, except for programs that interrupt
 * this one and end first. Linux 6.10 and later have it, for programs with a GPL-compatible license.
 * The loader leaves the address of a missing function zero. The verifier then removes the guarded claim;
 * otherwise it removes the other one. Both claims may write one ring. Plain stores can claim a slot only if
 * all CPUs see stores in order. `#define MAPRING_NO_GUARD` before the include leaves the guard out, for
 * programs with another license and for loaders that do not resolve kernel functions (aya).
 */
#ifdef MAPRING__HAS_GUARD /* tests define their own guard */
#elif defined(__TARGET_ARCH_x86) && !defined(MAPRING_NO_GUARD)
extern void bpf_preempt_disable(void) __weak __ksym;
extern void bpf_preempt_enable(void) __weak __ksym;
/* A loader sets this where calls of kernel functions cost more than a compare-and-swap (mapring_loader::prepare). */
const volatile __u32 mapring__guard_is_slow __weak = 0;
#define MAPRING__HAS_GUARD (!!bpf_preempt_disable && !mapring__guard_is_slow)
#define MAPRING__GUARD bpf_preempt_disable()
#define MAPRING__UNGUARD bpf_preempt_enable()
#else
#define MAPRING__HAS_GUARD 0
#define MAPRING__GUARD
#define MAPRING__UNGUARD
#endif

/*
 * Claims the slot of ticket t by compare-and-swap, if the slot is free. Returns 0, else the state of the slot.
 * `pending` is the mark as this claim found it. If it was set, this program interrupts a guarded claim,
 * which may be about to store to a slot that it found free. That slot is behind for every later ticket, so
 * this claim takes only slots that are exactly free.
 *
 * SYNC claim, order, follow, clock: a compare-and-swap is a full barrier.
 */
static __always_inline __u64 mapring__take(__u64 *seq, __u64 lap, __u64 pending)
{
	/* The cmpxchg fails for an odd `seq` (being written), because it expects `even` and `seq` never goes back. */
	__u64 found = mapring__load(seq), even = found & ~1ULL, state = even & ~MAPRING__DISCARDED;

	if (state == lap || (!pending && state < lap)) {
		MAPRING__IN_CLAIM;
		found = mapring__cmpxchg(seq, even, lap + 1);
		if (found == even)
			return 0;
	}
	found &= ~MAPRING__DISCARDED;
	return found ? found : 1; /* behind, and can't be claimed */
}

/*
 * The same by plain stores, in the guard. Advances `head`, marked as pending, *before* checking the slot. A
 * program that interrupts this one between the check and the store then starts at a later ticket, and finds
 * the mark. Within a lap it does not reach this slot. Later it finds the slot behind, and does not take it
 * because of the mark: `seq` never goes back. Without the mark no guarded claim is under way on this CPU,
 * and a claim takes slots that were left behind as usual.
 */
static __always_inline __u64 mapring__take_guarded(__u64 *head, __u64 t, __u64 *seq, __u64 lap, __u64 pending)
{
	__u64 found;

	mapring__store(head, (t + 1) | MAPRING__PENDING);
	found = mapring__load(seq) & ~MAPRING__DISCARDED;
	if (found == lap || (!pending && found < lap && !(found & 1))) {
		MAPRING__IN_CLAIM;
		mapring__store(seq, lap + 1);
		return 0;
	}
	return found ? found : 1;
}

#define MAPRING__TAKE(guarded) \
	((guarded) ? mapring__take_guarded(head, t, seq, lap, pending) : mapring__take(seq, lap, pending))

/* What the slow path returns if it claims nothing: no slot that it tried was free, or a required reader is in the way. */
#define MAPRING__NO_SLOT -1
#define MAPRING__IS_FULL -2

/*
 * The slow path: `head` was not the next free ticket. Returns the ticket that it claimed, or why it claimed none. Its
 * loops follow each other, because the verifier multiplies nested ones.
 */
static __always_inline __s64 mapring__search(struct mapring__ring ring, __u64 *head, __u32 base, const int guarded)
{
	__u64 *seq, start = mapring__load(head), pending = start & MAPRING__PENDING, t = start ^ pending;
	__u64 lap, state, limit = 0;

	/* A nested program took the slot, or it is still being written one lap behind: try the next. */
	for (__u32 i = 0; i < MAPRING__WALK; i++, t++) {
		if (mapring__is_beyond(ring, head, base, t))
			break;
		seq = mapring__slot(ring, base, t);
		if (!seq)
			goto dropped;
		lap = mapring__lap(ring, t);
		state = MAPRING__TAKE(guarded);
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
		/* `head` is far behind. The last ticket of this slot is taken, and so are all up to the
		 * end, which is less than a lap further: bisect. */
		t = ((state - 1) >> 1 << ring.shift) | (t & ((1ULL << ring.shift) - 1));
		for (__u32 bit = (1ULL << ring.shift) >> 1; bit; bit >>= 1) {
			__u64 mid = t + bit, ahead;
			seq = mapring__slot(ring, base, mid);
			if (!seq)
				goto dropped;
			/* 1 if taken, else 0. Opaque at each step: otherwise clang makes it a branch, and
			 * the verifier takes both sides. */
			ahead = mapring__lap(ring, mid) - (mapring__load(seq) & ~MAPRING__DISCARDED);
			asm volatile("" : "+r"(ahead));
			ahead >>= 63;
			asm volatile("" : "+r"(ahead));
			t += bit * ahead;
		}
		t++;
	}
	if (ring.readers)
		limit = mapring__limit(ring.readers, mapring__limit_word(ring, head, base), t, 1ULL << ring.shift);
	for (__u32 i = MAPRING__WALK; i < MAPRING__TRIES; i++, t++) {
		if (ring.readers && (__s64)(t - limit) >= 0)
			goto full;
		seq = mapring__slot(ring, base, t);
		if (!seq)
			goto dropped;
		lap = mapring__lap(ring, t);
		if (!MAPRING__TAKE(guarded))
			goto claimed;
	}
dropped:
	/* Stuck slots in a row, or these and a stale `head` hide the end: the next claim continues
	 * from here. In a smaller ring this claim tried every slot. */
	if ((1ULL << ring.shift) > MAPRING__TRIES)
		mapring__store(head, t | pending);
	else if (guarded)
		mapring__store(head, start);
	return MAPRING__NO_SLOT;
full:
	mapring__store(head, t | pending);
	return MAPRING__IS_FULL;
claimed:
	mapring__store(head, (t + 1) | pending);
	return (__s64)t;
}

/* After the slow path, outside of the guard: counts a drop in the shard whose header starts with element `header`. */
static __always_inline void mapring__count_drop(struct mapring__ring ring, __u64 *head, __u32 header, __s64 claimed)
{
	__u64 *count = head + 1;

	if (claimed >= 0)
		return;
	if (ring.readers && claimed == MAPRING__IS_FULL)
		count = mapring__header_word(ring.map, ring.size, head, header, MAPRING__FULL);
	mapring__time_drop(ring.map, ring.size, head, header);
	if (count)
		mapring__count(count, 1);
}

static __always_inline __s64 mapring__claim(struct mapring__ring ring, __u64 *head, __u32 base)
{
	__s64 claimed;

	if (!MAPRING__HAS_GUARD) {
		claimed = mapring__search(ring, head, base, 0);
	} else {
		MAPRING__GUARD;
		claimed = mapring__search(ring, head, base, 1);
		MAPRING__UNGUARD;
	}
	mapring__count_drop(ring, head, base, claimed);
	return claimed;
}

/*
 * The bit that the fast paths must check in `head`: the mark of a guarded claim. In a ring of four slots or more,
 * no slot's state equals the lap of a marked head, so the check is not needed. This saves a branch: the verifier
 * refuses loops with 8192 of them.
 */
#define MAPRING__MARK(slots) ((slots) < 4 ? MAPRING__PENDING : 0)

/* The fast paths return the slot's `seq` if `head` was the next free ticket, else NULL. */
static __always_inline __u64 *mapring__fast(struct mapring__ring ring, __u64 *head, __u32 base, const __u64 mark)
{
	__u64 *seq, t, lap;

	if (!head)
		return 0;
	t = mapring__load(head);
	lap = mapring__lap(ring, t);
	seq = mapring__slot(ring, base, t);
	MAPRING__IN_CLAIM;
	if (!seq || (t & mark) || mapring__is_beyond(ring, head, base, t) ||
	    mapring__cmpxchg(seq, lap, lap + 1) != lap)
		return 0;
	mapring__store(head, t + 1);
	return seq;
}

static __always_inline __u64 *mapring__fast_guarded(struct mapring__ring ring, __u64 *head, __u32 base,
						 const __u64 mark)
{
	__u64 *seq, t, lap;

	t = mapring__load(head);
	lap = mapring__lap(ring, t);
	seq = mapring__slot(ring, base, t);
	if (!seq || (t & mark) || mapring__is_beyond(ring, head, base, t))
		return 0;
	mapring__store(head, (t + 1) | MAPRING__PENDING);
	/* Programs may have claimed later tickets since. So t may be given back only if no claim takes it now. */
	if ((mapring__load(seq) & ~MAPRING__DISCARDED) != lap) {
		mapring__store(head, t);
		return 0;
	}
	MAPRING__IN_CLAIM;
	mapring__store(seq, lap + 1);
	mapring__store(head, t + 1);
	return seq;
}

static __always_inline __u64 *mapring__try_fast(struct mapring__ring ring, __u64 *head, __u32 base,
						     const __u64 mark)
{
	__u64 *seq;

	if (!MAPRING__HAS_GUARD)
		return mapring__fast(ring, head, base, mark);
	if (!head)
		return 0;
	MAPRING__GUARD;
	seq = mapring__fast_guarded(ring, head, base, mark);
	MAPRING__UNGUARD;
	return seq;
}

/* Ends a reserved record: from now on readers see the whole record. If it is discarded, they pass its ticket, and do not
 * count it as lost. */
static __always_inline void mapring__end(void *record, __u64 discarded)
{
	__u64 *seq = (__u64 *)record - 1;

	mapring__publish(seq, (mapring__load(seq) + 1) | discarded);
}

/* Checks the parameters of a ring. */
#define MAPRING__RING_CHECKS(name, record_type, slots)                                   \
	_Static_assert((slots) > 0 && ((slots) & ((slots) - 1)) == 0,                    \
		       "mapring: the slots of ring " #name " must be a power of two");   \
	MAPRING__COUNT_CHECK(name, slots, "slots")                                       \
	MAPRING__TYPE_CHECKS(record_type, "records")

#endif

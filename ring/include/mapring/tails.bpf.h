/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A ring whose records have tails: bytes of any length up to a maximum, which helpers write in place.
 *
 *	struct exec { __u64 ns; __u32 pid, pad; };
 *	MAPRING_RING_WITH_TAILS(execs, struct exec, 4096, 1024, 1 << 20);	// slots, longest tail, bytes of tails per CPU
 *
 *	void *tail;
 *	struct exec *e = mapring_reserve_with_tail(&execs, &tail);		// NULL: counted as dropped
 *	if (e) {
 *		e->ns = bpf_ktime_get_ns();
 *		mapring_commit_with_tail(&execs, e, bpf_probe_read_user_str(tail, 1024, filename));
 *	}
 *	mapring_commit_with_tail_cut(&execs, e, len);				// a longer tail is cut to the longest
 *	mapring_discard_with_tail(&execs, e);
 *
 * The verifier lets helpers write up to the longest tail at `tail`. A commit gives the rest back, so short tails take
 * their own length, in steps of 16 bytes. A negative length (a helper's error) is an empty tail. A length above the
 * maximum is refused: the record is discarded and counted, and the commit returns -1.
 *
 * New tails overwrite the oldest ones; a record whose tail was overwritten is lost, and counted by readers. A program
 * may be interrupted, be preempted, and sleep between reserve and commit: no other program overwrites its tail. Up to 16
 * programs of a CPU may be there at once. While a program stays there, others can write as many bytes of tails
 * as the area has; then they drop their records, and count them. Every reserve needs a commit or discard. The verifier
 * does not check this. A missing one keeps its place for good, so that after one round of the area all records of its
 * CPU are dropped.
 *
 * Claims are guarded where they can be (claim.bpf.h). Otherwise by atomic operations: any license, any loader, Linux 5.12.
 *
 * wakeable_tails.bpf.h has the same with readers that sleep.
 *
 * docs/guarantees.md says why the protocol is correct. ring/src/protocol/ring/tails.rs has the unguarded claim in Rust.
 */
#ifndef MAPRING_TAILS_BPF_H
#define MAPRING_TAILS_BPF_H

#include <mapring/detail/claim.bpf.h>

#define MAPRING__TAIL_ALIGN 16ULL
#define MAPRING__TAIL_WRITERS 16

/* The words of the header for tails. */
#define MAPRING__TAIL_NEXT 0    /* the next position to claim, in bytes */
#define MAPRING__TAIL_HIGH 1    /* no byte at or beyond this position was ever written */
#define MAPRING__TAIL_GRANTED 2 /* no program may write at or beyond this position yet */
#define MAPRING__TAIL_NO_SPACE 3
#define MAPRING__TAIL_TOO_LONG 4
#define MAPRING__TAIL_BESIDE 5  /* positions before this one were claimed beside NEXT, and NEXT may be behind them */
#define MAPRING__TAIL_ACTIVE 8  /* the positions of programs between reserve and commit, plus 1 */
/* Set in entry 0 while its program moves NEXT by plain stores, in the guard. */
#define MAPRING__TAIL_MOVING 2ULL
/* No claim. Otherwise a claim is a position, with the number of its entry in the low bits. */
#define MAPRING__TAIL_NONE ~0ULL
/* How often a program tries to move a word that others move. */
#define MAPRING__TAIL_TRIES 4

/* The tails of one shard. The header of the shard is right before the one for tails. */
struct mapring__tails {
	__u64 *header;
	__u32 space;    /* the bytes that a claim takes */
	__u64 capacity; /* the bytes of the area */
};

#define MAPRING_RING_WITH_TAILS(name, record_type, slots, longest, bytes)                              \
	MAPRING__RING_WITH_TAILS(name, record_type, slots, longest, bytes)                             \
	static __always_inline void mapring__ended__##name(                                            \
		struct mapring_tail_ring__##name *shard __attribute__((unused)),                       \
		__u64 *seq __attribute__((unused)))                                                    \
	{                                                                                              \
	}                                                                                              \
	MAPRING__TAILED_ENDS(name, record_type, longest)

/* Its map, and mapring_reserve_with_tail. */
#define MAPRING__RING_WITH_TAILS(name, record_type, slots, longest, bytes)                             \
	struct mapring_tailed__##name {                                                                \
		__u64 tail_at;                                                                         \
		__u64 tail_len;                                                                        \
		record_type record;                                                                    \
	};                                                                                             \
	struct mapring_slot__##name {                                                                  \
		__u64 seq;                                                                             \
		struct mapring_tailed__##name record;                                                  \
	};                                                                                             \
	struct mapring_tail_ring__##name {                                                             \
		__u64 preamble[MAPRING__PREAMBLE / 8]; /* in the first shard */                        \
		__u64 header[MAPRING__LINE / 8];                                                       \
		__u64 tails[MAPRING__TAIL_ACTIVE + MAPRING__TAIL_WRITERS];                             \
		struct mapring_slot__##name slot[slots];                                               \
		__u8 area[(bytes) + MAPRING__ROUND_UP(longest, MAPRING__LINE)]                         \
			__attribute__((aligned(MAPRING__LINE)));                                       \
		MAPRING__TAG(slots);                                                                   \
		__u8 mapring_longest[0][longest];                                                      \
		__u8 mapring_tails[0][bytes];                                                          \
	};                                                                                             \
	MAPRING__RING_CHECKS(name, record_type, slots)                                                 \
	_Static_assert((bytes) >= 128 && ((bytes) & ((bytes) - 1)) == 0,                               \
		       "mapring: the bytes of tails of " #name " must be a power of two, at least 128"); \
	_Static_assert((longest) > 0 && (longest) <= (bytes) / 2,                                      \
		       "mapring: the longest tail of " #name " must fit twice into its bytes");        \
	MAPRING__MAP(tail_ring, name, 1);                                                              \
	MAPRING__TAILS_API(name, record_type, slots, longest, bytes)

#define MAPRING__TAILS_API(name, record_type, slots, longest, bytes)                                   \
	/* This CPU's shard. */                                                                        \
	static __always_inline struct mapring_tail_ring__##name *mapring__shard__##name(void)          \
	{                                                                                              \
		return (void *)mapring__word(&name, bpf_get_smp_processor_id());                       \
	}                                                                                              \
	static __always_inline struct mapring__ring mapring__ring__##name(                             \
		struct mapring_tail_ring__##name *shard)                                               \
	{                                                                                              \
		return (struct mapring__ring){ shard->slot,                                            \
					       sizeof(shard->slot[0]) | MAPRING__IN_SHARD,             \
					       MAPRING__LOG2(slots), 0 };                              \
	}                                                                                              \
	static __always_inline struct mapring__tails mapring__tails__##name(                           \
		struct mapring_tail_ring__##name *shard)                                               \
	{                                                                                              \
		return (struct mapring__tails){ shard->tails,                                          \
						MAPRING__ROUND_UP((__u32)(longest), 16), bytes };      \
	}                                                                                              \
	__attribute__((noinline)) __s64 mapring__claim__##name(void)                                   \
	{                                                                                              \
		struct mapring_tail_ring__##name *shard = mapring__shard__##name();                    \
                                                                                                       \
		return shard ? mapring__claim(mapring__ring__##name(shard), shard->header, 0) : -1;    \
	}                                                                                              \
	__attribute__((noinline)) __u64 mapring__tail__##name(void)                                    \
	{                                                                                              \
		struct mapring_tail_ring__##name *shard = mapring__shard__##name();                    \
                                                                                                       \
		return shard ? mapring__tail_search(mapring__tails__##name(shard)) : MAPRING__TAIL_NONE; \
	}                                                                                              \
	MAPRING__FN record_type *mapring_reserve_with_tail(                                            \
		struct mapring_map__##name *map __attribute__((unused)), void **tail)                  \
	{                                                                                              \
		struct mapring_tail_ring__##name *shard = mapring__shard__##name();                    \
		struct mapring__ring ring;                                                             \
		struct mapring__tails tails;                                                           \
		__u64 *seq = 0, claim = MAPRING__TAIL_NONE;                                            \
                                                                                                       \
		if (!shard) {                                                                          \
			mapring__count_out_of_range(map, sizeof(*shard));                              \
			return 0;                                                                      \
		}                                                                                      \
		ring = mapring__ring__##name(shard);                                                   \
		tails = mapring__tails__##name(shard);                                                 \
		if (MAPRING__HAS_GUARD) {                                                              \
			MAPRING__GUARD;                                                                \
			claim = mapring__tail_guarded(tails);                                          \
			if (claim != MAPRING__TAIL_NONE)                                               \
				seq = mapring__fast_guarded(ring, shard->header, 0, MAPRING__MARK(slots)); \
			MAPRING__UNGUARD;                                                              \
		}                                                                                      \
		if (claim == MAPRING__TAIL_NONE) {                                                     \
			claim = mapring__tail__##name();                                               \
			if (claim == MAPRING__TAIL_NONE)                                               \
				return 0;                                                              \
		}                                                                                      \
		/* SYNC overwrite: the claim is also a barrier between moving HIGH and the tail. */    \
		if (!seq)                                                                              \
			seq = mapring__try_fast(ring, shard->header, 0, MAPRING__MARK(slots));         \
		if (!seq) {                                                                            \
			__s64 ticket = mapring__claim__##name();                                       \
			if (ticket < 0) {                                                              \
				mapring__tail_end(tails, claim, 0);                                    \
				return 0;                                                              \
			}                                                                              \
			seq = mapring__slot(ring, 0, ticket);                                          \
		}                                                                                      \
		*tail = shard->area + mapring__tail_place(claim, bytes);                               \
		/* The verifier needs the additions to stay behind the checks. */                      \
		asm volatile("" : "+r"(seq));                                                          \
		mapring__store(seq + 1, claim & -MAPRING__TAIL_ALIGN);                                 \
		mapring__store(seq + 2, claim); /* until the commit */                                 \
		return (record_type *)(seq + 3);                                                       \
	}

/* The ends of a record. Before them, mapring__ended__NAME says what a program does after it has ended one. */
#define MAPRING__TAILED_ENDS(name, record_type, longest)                                               \
	MAPRING__FN long mapring__end_with_tail(struct mapring_map__##name *map __attribute__((unused)), \
						record_type *record, __s64 len, __u64 discarded)       \
	{                                                                                              \
		struct mapring_tail_ring__##name *shard = mapring__shard__##name();                    \
		__u64 *words = (__u64 *)record - 3, claim;                                             \
                                                                                                       \
		if (!shard)                                                                            \
			return -1;                                                                     \
		if (len < 0)                                                                           \
			len = 0;                                                                       \
		if (len > (longest)) {                                                                 \
			mapring__tail_drop(mapring__tails__##name(shard), MAPRING__TAIL_TOO_LONG);     \
			discarded = MAPRING__DISCARDED;                                                \
			len = 0;                                                                       \
		}                                                                                      \
		claim = mapring__load(words + 2);                                                      \
		mapring__store(words + 2, len);                                                        \
		mapring__publish(words, (mapring__load(words) + 1) | discarded);                       \
		if (MAPRING__HAS_GUARD && !(claim & (MAPRING__TAIL_WRITERS - 1))) {                    \
			MAPRING__GUARD;                                                                \
			mapring__tail_end_guarded(mapring__tails__##name(shard), claim, len);          \
			MAPRING__UNGUARD;                                                              \
		} else {                                                                               \
			mapring__tail_end(mapring__tails__##name(shard), claim, len);                  \
		}                                                                                      \
		mapring__ended__##name(shard, words);                                                  \
		return discarded ? -1 : 0;                                                             \
	}                                                                                              \
	/* Publishes a record whose tail has `len` bytes. Returns 0, or -1 if the tail is too long. */ \
	MAPRING__FN long mapring_commit_with_tail(struct mapring_map__##name *map, record_type *record, \
						  __s64 len)                                           \
	{                                                                                              \
		return mapring__end_with_tail(map, record, len, 0);                                    \
	}                                                                                              \
	/* The same, but cuts a tail that is too long. */                                              \
	MAPRING__FN long mapring_commit_with_tail_cut(struct mapring_map__##name *map,                 \
						      record_type *record, __s64 len)                  \
	{                                                                                              \
		return mapring__end_with_tail(map, record, len > (longest) ? (longest) : len, 0);      \
	}                                                                                              \
	/* Ends a record without publishing it: readers pass its ticket. */                            \
	MAPRING__INSTEAD_OF(mapring_commit, record_type,                                               \
			    "mapring_commit_with_tail(&ring, record, bytes)");                         \
	MAPRING__INSTEAD_OF(mapring_discard, record_type, "mapring_discard_with_tail(&ring, record)"); \
	MAPRING__FN void mapring_discard_with_tail(struct mapring_map__##name *map, record_type *record) \
	{                                                                                              \
		mapring__end_with_tail(map, record, 0, MAPRING__DISCARDED);                            \
	}

/* The place of a position in the area: from there, the longest tail is still in the area. */
static __always_inline __u64 mapring__tail_place(__u64 at, __u64 capacity)
{
	asm volatile("" : "+r"(at)); /* the mask must be right before the use */
	return at & (capacity - MAPRING__TAIL_ALIGN);
}

/* Whether position `a` comes after position `b`. */
static __always_inline int mapring__after(__u64 a, __u64 b)
{
	return (__s64)(a - b) > 0;
}

/* Counts a drop in word `word` of the header for tails. */
static __always_inline void mapring__tail_drop(struct mapring__tails tails, __u32 word)
{
	mapring__time_drop(0, MAPRING__LINE, tails.header - MAPRING__LINE / 8, 0);
	mapring__count(tails.header + word, 1);
}

/* The bytes of the area that a tail of `len` bytes takes. */
static __always_inline __u64 mapring__tail_used(__u64 len)
{
	return (len + MAPRING__TAIL_ALIGN - 1) & -MAPRING__TAIL_ALIGN;
}

/* Gives back the end of a claim at `at`, of which `used` bytes are in use, unless others have claimed since. */
static __always_inline void mapring__tail_give_back(struct mapring__tails tails, __u64 at, __u64 used)
{
	mapring__cmpxchg(&tails.header[MAPRING__TAIL_NEXT], at + tails.space, at + used);
}

/* Ends a claim of which `len` bytes are in use. From now on other programs may overwrite them. */
static __always_inline void mapring__tail_end(struct mapring__tails tails, __u64 claim, __u64 len)
{
	__u64 *active = tails.header + MAPRING__TAIL_ACTIVE, entry = claim & (MAPRING__TAIL_WRITERS - 1);

	/* First this: NEXT should not go back to a position that others have overtaken since the program left its entry. */
	mapring__tail_give_back(tails, claim & -MAPRING__TAIL_ALIGN, mapring__tail_used(len));
	/* SYNC give back: the record and its tail come before this; a program that then overwrites them comes after. */
	/* Opaque: clang knows which entries there are, and would leave out the mask, which the verifier needs. */
	asm volatile("" : "+r"(entry));
	mapring__publish(active + (entry & (MAPRING__TAIL_WRITERS - 1)), 0);
}

/* The same for entry 0 by plain stores, in the guard, with the mark as in mapring__tail_guarded. */
static __always_inline void mapring__tail_end_guarded(struct mapring__tails tails, __u64 at, __u64 len)
{
	__u64 *next = &tails.header[MAPRING__TAIL_NEXT], *active = tails.header + MAPRING__TAIL_ACTIVE;

	mapring__store(active, (at + 1) | MAPRING__TAIL_MOVING);
	if (mapring__load(next) == at + tails.space) {
		MAPRING__IN_CLAIM;
		mapring__store(next, at + mapring__tail_used(len));
	}
	mapring__store(active, 0);
}

/*
 * Claims a position and entry 0 by plain stores, in the guard, if nothing is in the way; else returns MAPRING__TAIL_NONE.
 * A program that interrupts this one before the mark may move NEXT, so NEXT is loaded after it. Such a program has ended
 * its tail by then. One that comes after the mark claims a position beside NEXT.
 */
static __always_inline __u64 mapring__tail_guarded(struct mapring__tails tails)
{
	__u64 *header = tails.header, *next = header + MAPRING__TAIL_NEXT, *active = header + MAPRING__TAIL_ACTIVE, at;

	if (mapring__load(active))
		return MAPRING__TAIL_NONE;
	mapring__store(active, (mapring__load(next) + 1) | MAPRING__TAIL_MOVING);
	at = mapring__load(next) & -MAPRING__TAIL_ALIGN;
	if (mapring__after(mapring__load(header + MAPRING__TAIL_BESIDE), at) ||
	    mapring__after(mapring__load(header + MAPRING__TAIL_HIGH), at + tails.capacity) ||
	    mapring__after(at + tails.space, mapring__load(header + MAPRING__TAIL_GRANTED))) {
		mapring__store(active, 0);
		return MAPRING__TAIL_NONE;
	}
	MAPRING__IN_CLAIM;
	mapring__store(next, at + tails.space);
	mapring__store(active, at + 1);
	return at;
}

/* Moves a word to `to`, unless it is there or beyond. A full barrier if it moves the word. */
static __always_inline int mapring__tail_raise(__u64 *word, __u64 to)
{
	for (__u32 i = 0; i < MAPRING__TAIL_TRIES; i++) {
		__u64 seen = mapring__load(word);

		if (!mapring__after(to, seen) || mapring__cmpxchg(word, seen, to) == seen)
			return 1;
	}
	return 0;
}

/* Whether a program between reserve and commit is more than the capacity behind `to`. */
static __always_inline int mapring__tail_in_the_way(struct mapring__tails tails, __u64 to)
{
	for (__u32 i = 0; i < MAPRING__TAIL_WRITERS; i++) {
		__u64 other = mapring__load(tails.header + MAPRING__TAIL_ACTIVE + i);

		if (other && mapring__after(to, (other & -MAPRING__TAIL_ALIGN) + tails.capacity))
			return 1;
	}
	return 0;
}

/*
 * Claims a position. A program that interrupts another one which is moving NEXT leaves NEXT alone, and claims beyond what
 * the other may claim: beside NEXT. Positions from NEXT are later than those.
 */
static __always_inline int mapring__tail_position(struct mapring__tails tails, __u64 *at)
{
	__u64 *next = &tails.header[MAPRING__TAIL_NEXT], *beside = &tails.header[MAPRING__TAIL_BESIDE];
	__u64 *active = tails.header + MAPRING__TAIL_ACTIVE, seen, from;

	for (__u32 i = 0; i < MAPRING__TAIL_TRIES; i++) {
		seen = mapring__load(beside);
		from = mapring__load(next);
		if (mapring__load(active) & MAPRING__TAIL_MOVING) {
			*at = from + tails.space;
			if (mapring__after(seen, *at))
				*at = seen;
			if (mapring__cmpxchg(beside, seen, *at + tails.space) == seen)
				return 1;
		} else {
			if (mapring__after(seen, from))
				mapring__cmpxchg(next, from, seen);
			*at = mapring__fetch_add(next, tails.space);
			if (!mapring__after(mapring__load(beside), *at))
				return 1;
		}
	}
	return 0;
}

/* The slow path: returns the position and the entry, or MAPRING__TAIL_NONE after it counted the drop. */
static __always_inline __u64 mapring__tail_search(struct mapring__tails tails)
{
	__u64 *header = tails.header, *active = header + MAPRING__TAIL_ACTIVE, step = tails.capacity / 8, at, to, kept = 0;
	__s64 entry = -1;

	if (!mapring__tail_position(tails, &at))
		goto dropped;
	for (__u32 i = 0; i < MAPRING__TAIL_WRITERS && entry < 0; i++)
		if (!mapring__load(active + i) && mapring__cmpxchg(active + i, 0, at + 1) == 0)
			entry = i;
	if (entry < 0) {
		mapring__tail_give_back(tails, at, 0);
		goto dropped;
	}
	if (mapring__after(mapring__load(header + MAPRING__TAIL_HIGH), at + tails.capacity)) {
		kept = tails.space; /* otherwise the next claim would be overtaken, too, and all after it */
		goto end;
	}
	if (!mapring__after(at + tails.space, mapring__load(header + MAPRING__TAIL_GRANTED)))
		return at | entry;
	/* Advances HIGH, and then checks that no program is still in the bytes that will be overwritten. Checks it first
	 * without advancing HIGH: otherwise readers would take that program's tail for overwritten. */
	to = (at + tails.space + step - 1) & -step;
	if (mapring__tail_in_the_way(tails, to) || !mapring__tail_raise(header + MAPRING__TAIL_HIGH, to))
		goto end;
	mapring__barrier(); /* SYNC grant: pairs with the barrier between entry and load of HIGH */
	if (!mapring__tail_in_the_way(tails, to) && mapring__tail_raise(header + MAPRING__TAIL_GRANTED, to))
		return at | entry;
end:
	mapring__tail_end(tails, at | entry, kept);
dropped:
	mapring__tail_drop(tails, MAPRING__TAIL_NO_SPACE);
	return MAPRING__TAIL_NONE;
}

#endif

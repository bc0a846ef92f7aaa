/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A ring whose records have tails: bytes of any length up to a maximum, which helpers write in place.
 *
 *	struct exec { __u64 ns; __u32 pid, pad; };
 *	MAPRING_RING_WITH_TAILS(execs, struct exec, 4096, 1024, 1 << 20);	// slots, longest tail, bytes of tails per CPU
 *
 *	void *tail;
 *	long len = 0;
 *	mapring_record_with_tail(execs, e, tail, len) {				// skips the block if dropped: counted
 *		e->ns = bpf_ktime_get_ns();
 *		len = bpf_probe_read_user_str(tail, 1024, filename);
 *	}									// commits; `return` or `break` discard
 *
 * or, where a block does not fit:
 *
 *	struct exec *e = mapring_reserve_with_tail(&execs, &tail);		// NULL: counted as dropped
 *	if (e) {
 *		e->ns = bpf_ktime_get_ns();
 *		mapring_commit_tail(&execs, e, bpf_probe_read_user_str(tail, 1024, filename));
 *	}
 *	mapring_commit_tail_cut(&execs, e, len);				// a longer tail is cut to the longest
 *	mapring_commit(&execs, e);						// an empty tail
 *	mapring_discard(&execs, e);
 *
 * The verifier lets helpers write up to the longest tail at `tail`. A commit gives the rest back, so short tails take
 * their own length, in steps of 16 bytes. A negative length (a helper's error) is an empty tail. A length above the
 * maximum is refused: the record is discarded and counted, and the commit returns -1.
 *
 * New tails overwrite the oldest ones; a record whose tail was overwritten is lost, and counted by readers. A program
 * may be interrupted, be preempted, and sleep between reserve and commit: no other program overwrites its tail. Up to 16
 * programs of a CPU may be there at once; others leave their bytes out. Every reserve needs a commit or discard. The verifier
 * does not check this. A missing one costs its slot, the longest tail of the area, and one of the 16 for good.
 *
 * Claims are guarded where they can be (claim.bpf.h). Otherwise by atomic operations: any license, any loader, Linux 5.12.
 *
 * wakeable_tails.bpf.h has the same with readers that sleep, and with readers for which programs keep the oldest records.
 */
#ifndef MAPRING_TAILS_BPF_H
#define MAPRING_TAILS_BPF_H

#include <mapring/detail/tail_claim.bpf.h>

#undef MAPRING_RING_WITH_TAILS
#define MAPRING_RING_WITH_TAILS(name, record_type, slots, longest, bytes)                              \
	MAPRING__TAILED_MAP(name, record_type, slots, longest, bytes, 0, 0)                            \
	MAPRING__RESERVE_WITH_TAIL(name, record_type, slots, bytes, 0)                                 \
	static __always_inline void mapring__ended__##name(                                            \
		struct mapring_tail_ring__##name *shard __attribute__((unused)),                       \
		__u64 *seq __attribute__((unused)))                                                    \
	{                                                                                              \
	}                                                                                              \
	MAPRING__TAILED_ENDS(name, record_type, longest)

/* Its map. `keeps` is 1 if it keeps its oldest records for `readers`, else both are 0. */
#define MAPRING__TAILED_MAP(name, record_type, slots, longest, bytes, keeps, readers)                  \
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
		__u8 mapring_keeps_oldest[0][keeps];                                                   \
	};                                                                                             \
	MAPRING__RING_CHECKS(name, record_type, slots)                                                 \
	_Static_assert((bytes) >= 128 && ((bytes) & ((bytes) - 1)) == 0,                               \
		       "mapring: the bytes of tails of " #name " must be a power of two, at least 128"); \
	_Static_assert((longest) > 0 && (longest) <= (bytes) / 2,                                      \
		       "mapring: the longest tail of " #name " must fit twice into its bytes");        \
	MAPRING__MAP(tail_ring, name, 1);                                                              \
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
					       MAPRING__LOG2(slots), readers };                        \
	}                                                                                              \
	static __always_inline struct mapring__tails mapring__tails__##name(                           \
		struct mapring_tail_ring__##name *shard)                                               \
	{                                                                                              \
		return (struct mapring__tails){ shard->tails,                                          \
						MAPRING__ROUND_UP((__u32)(longest), 16), bytes };      \
	}

/* mapring_reserve_with_tail. */
#define MAPRING__RESERVE_WITH_TAIL(name, record_type, slots, bytes, unread)                            \
	MAPRING__SHARED __s64 mapring__claim__##name(void)                                   \
	{                                                                                              \
		struct mapring_tail_ring__##name *shard = mapring__shard__##name();                    \
                                                                                                       \
		return shard ? mapring__claim(mapring__ring__##name(shard), shard->header, 0) : -1;    \
	}                                                                                              \
	MAPRING__SHARED __u64 mapring__way__##name(__u64 at)                                 \
	{                                                                                              \
		struct mapring_tail_ring__##name *shard = mapring__shard__##name();                    \
                                                                                                       \
		return shard ? mapring__tail_way(mapring__tails__##name(shard), at) : 0;               \
	}                                                                                              \
	MAPRING__SHARED __u64 mapring__tail__##name(void)                                    \
	{                                                                                              \
		struct mapring_tail_ring__##name *shard = mapring__shard__##name();                    \
                                                                                                       \
		return shard ? mapring__tail_search(mapring__tails__##name(shard),                     \
						    mapring__way__##name, unread) :                    \
			       MAPRING__TAIL_NONE;                                                     \
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
		__u64 *words = (__u64 *)record - 3, claim, lap;                                        \
		struct mapring__ring ring;                                                             \
                                                                                                       \
		if (!shard)                                                                            \
			return -1;                                                                     \
		ring = mapring__ring__##name(shard);                                                   \
		if (len < 0)                                                                           \
			len = 0;                                                                       \
		if (len > (longest)) {                                                                 \
			mapring__tail_drop(mapring__tails__##name(shard), MAPRING__TAIL_TOO_LONG);     \
			discarded = MAPRING__DISCARDED;                                                \
			len = 0;                                                                       \
		}                                                                                      \
		claim = mapring__load(words + 2);                                                      \
		mapring__store(words + 1, mapring__tail_ends_at(mapring__tails__##name(shard), claim)); \
		mapring__store(words + 2, len);                                                        \
		lap = mapring__load(words) >> 1;                                                       \
		mapring__publish(words, (mapring__load(words) + 1) | discarded);                       \
		if (ring.readers)                                                                      \
			mapring__tail_ended(mapring__tails__##name(shard),                             \
					    (lap << ring.shift) | mapring__number(ring, 0, words));    \
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
	MAPRING__FN long mapring_commit_tail(struct mapring_map__##name *map, record_type *record, __s64 len) \
	{                                                                                              \
		return mapring__end_with_tail(map, record, len, 0);                                    \
	}                                                                                              \
	/* The same, but cuts a tail that is too long. */                                              \
	MAPRING__FN long mapring_commit_tail_cut(struct mapring_map__##name *map, record_type *record, \
						 __s64 len)                                            \
	{                                                                                              \
		return mapring__end_with_tail(map, record, len > (longest) ? (longest) : len, 0);      \
	}                                                                                              \
	/* Publishes a record without a tail. */                                                       \
	MAPRING__FN void mapring_commit(struct mapring_map__##name *map, record_type *record)          \
	{                                                                                              \
		mapring__end_with_tail(map, record, 0, 0);                                             \
	}                                                                                              \
	/* Ends a record without publishing it: readers pass its ticket. */                            \
	MAPRING__FN void mapring_discard(struct mapring_map__##name *map, record_type *record)         \
	{                                                                                              \
		mapring__end_with_tail(map, record, 0, MAPRING__DISCARDED);                            \
	}                                                                                              \
	MAPRING__SCOPE(name, record_type)

MAPRING__NO_RING(mapring_commit_tail, , bytes)
MAPRING__NO_RING(mapring_commit_tail_cut, , bytes)

/* mapring_record for a record with a tail. `tail` is a variable of the program. The end of the block commits `len` bytes of
 * the tail. */
#define mapring_record_with_tail(name, record, tail, len)                                              \
	MAPRING__SCOPED(name, record, mapring_reserve_with_tail(&name, &(tail)),                       \
			mapring_commit_tail(&name, mapring__open_##record, len))

#endif

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reserves records with tails, and ends them. */
#ifndef MAPRING_TAILS_BPF_H
#define MAPRING_TAILS_BPF_H

#include <mapring/detail/records.bpf.h>

/* The function that says whether required readers have read what a claim would overwrite; or none. */
#define MAPRING__UNREAD_NO(name) 0
#define MAPRING__UNREAD_YES(name) mapring__unread__##name
#define MAPRING__UNREAD_OF_NO(name)
#define MAPRING__UNREAD_OF_YES(name)                                                                          \
	MAPRING__SHARED int mapring__unread__##name(__u64 to)                                                 \
	{                                                                                                     \
		__u64 *header = mapring__header(mapring__shard__##name(mapring__at__##name()));               \
                                                                                                              \
		return !header || mapring__tail_unread(mapring__tails__##name(header), &name##__readers, to); \
	}

#define MAPRING__RESERVE_TAILED(name, record_type, slots, longest, bytes, keeps)                              \
	MAPRING__CLAIM(name)                                                                                  \
	static __always_inline struct mapring__tails mapring__tails__##name(__u64 *header)                    \
	{                                                                                                     \
		return (struct mapring__tails){ header + MAPRING__LINE / 8,                                   \
						MAPRING__ROUND_UP((__u32)(longest), 16), bytes };             \
	}                                                                                                     \
	/* The bytes of the area at a position, in a shard with this header. */                               \
	static __always_inline void *mapring__area__##name(__u64 *header, __u64 claim)                        \
	{                                                                                                     \
		return (__u8 *)header + __builtin_offsetof(struct mapring_ring__##name, area) -               \
		       MAPRING__PREAMBLE + mapring__tail_place(claim, bytes);                                 \
	}                                                                                                     \
	MAPRING__PART(UNREAD_OF, keeps)(name)                                                                 \
	MAPRING__SHARED __u64 mapring__way__##name(__u64 at)                                                  \
	{                                                                                                     \
		__u64 *header = mapring__header(mapring__shard__##name(mapring__at__##name()));               \
                                                                                                              \
		return header ? mapring__tail_way(mapring__tails__##name(header), at) : 0;                    \
	}                                                                                                     \
	MAPRING__SHARED __u64 mapring__tail__##name(__u32 at)                                                 \
	{                                                                                                     \
		__u64 *header = mapring__header(mapring__shard__##name(at));                                  \
                                                                                                              \
		return header ? mapring__tail_search(mapring__tails__##name(header), mapring__way__##name,    \
						     MAPRING__PART(UNREAD, keeps)(name)) :                    \
				MAPRING__TAIL_NONE;                                                           \
	}                                                                                                     \
	MAPRING__FN record_type *mapring__reserve(struct mapring_map__##name *map __attribute__((unused)),    \
						  void **tail)                                                \
	{                                                                                                     \
		__u32 at = mapring__at__##name();                                                             \
		struct mapring__shard shard = mapring__shard__##name(at);                                     \
		__u64 *header = mapring__header(shard), *seq = 0, claim = MAPRING__TAIL_NONE;                 \
		struct mapring__tails tails;                                                                  \
                                                                                                              \
		if (!header) {                                                                                \
			mapring__no_shard__##name();                                                          \
			return 0;                                                                             \
		}                                                                                             \
		tails = mapring__tails__##name(header);                                                       \
		if (MAPRING__HAS_GUARD) {                                                                     \
			MAPRING__GUARD;                                                                       \
			claim = mapring__tail_guarded(tails);                                                 \
			if (claim != MAPRING__TAIL_NONE)                                                      \
				seq = mapring__fast_guarded(shard.ring, header, 0, MAPRING__MARK(slots));     \
			MAPRING__UNGUARD;                                                                     \
		}                                                                                             \
		if (claim == MAPRING__TAIL_NONE) {                                                            \
			claim = mapring__tail__##name(at);                                                    \
			if (claim == MAPRING__TAIL_NONE)                                                      \
				return 0;                                                                     \
		}                                                                                             \
		/* SYNC overwrite: the claim is also a barrier between moving HIGH and the tail. */           \
		if (!seq)                                                                                     \
			seq = mapring__try_fast(shard.ring, header, 0, MAPRING__MARK(slots));                 \
		if (!seq) {                                                                                   \
			__s64 ticket = mapring__claim__##name(at);                                            \
			if (ticket < 0) {                                                                     \
				mapring__tail_end(tails, claim, 0);                                           \
				return 0;                                                                     \
			}                                                                                     \
			seq = mapring__slot(shard.ring, 0, ticket);                                           \
		}                                                                                             \
		*tail = mapring__area__##name(header, claim);                                                 \
		/* The verifier needs the additions to stay behind the checks. */                             \
		asm volatile("" : "+r"(seq));                                                                 \
		mapring__store(seq + 2, claim); /* until the commit */                                        \
		return (record_type *)(seq + 3);                                                              \
	}                                                                                                     \
	MAPRING__FN record_type *mapring_reserve(struct mapring_map__##name *map)                             \
	{                                                                                                     \
		void *tail;                                                                                   \
                                                                                                              \
		return mapring__reserve(map, &tail);                                                          \
	}                                                                                                     \
	/* The bytes for the tail of a reserved record: as many as the longest tail. */                       \
	MAPRING__FN void *mapring_tail(struct mapring_map__##name *map __attribute__((unused)),               \
				       record_type *record)                                                   \
	{                                                                                                     \
		__u64 *header = mapring__header(mapring__shard__##name(mapring__at__##name()));               \
                                                                                                              \
		/* It is there, as the record is. For the verifier, the record has as many bytes behind it. */ \
		return header ? mapring__area__##name(header, mapring__load((__u64 *)record - 1)) : record;   \
	}

/* What the compiler says of a ring without tails. */
MAPRING__FN void *mapring_tail(const void *map, ...)
	__attribute__((unavailable("mapring: only a ring with the option TAILS has tails: mapring_tail(&ring, record)")));

#define MAPRING__ENDS_TAILED(name, record_type, wakes, longest)                                               \
	MAPRING__FN long mapring__end_tail(struct mapring_map__##name *map __attribute__((unused)),           \
					   record_type *record, __s64 len, __u64 discarded)                   \
	{                                                                                                     \
		__u32 at = mapring__at__##name();                                                             \
		struct mapring__shard shard = mapring__shard__##name(at);                                     \
		__u64 *header = mapring__header(shard), *words = (__u64 *)record - 3, claim, lap;             \
		struct mapring__tails tails;                                                                  \
                                                                                                              \
		if (!header)                                                                                  \
			return -1;                                                                            \
		tails = mapring__tails__##name(header);                                                       \
		if (len < 0)                                                                                  \
			len = 0;                                                                              \
		if (len > (longest)) {                                                                        \
			mapring__tail_drop(tails, MAPRING__TAIL_TOO_LONG);                                    \
			discarded = MAPRING__DISCARDED;                                                       \
			len = 0;                                                                              \
		}                                                                                             \
		claim = mapring__load(words + 2);                                                             \
		mapring__store(words + 1, mapring__tail_ends_at(tails, claim));                               \
		mapring__store(words + 2, len);                                                               \
		lap = mapring__load(words) >> 1;                                                              \
		mapring__publish(words, (mapring__load(words) + 1) | discarded);                              \
		if (shard.ring.readers)                                                                       \
			mapring__tail_ended(tails, (lap << shard.ring.shift) |                                \
							   mapring__number(shard.ring, 0, words));            \
		if (MAPRING__HAS_GUARD && !(claim & (MAPRING__TAIL_WRITERS - 1))) {                           \
			MAPRING__GUARD;                                                                       \
			mapring__tail_end_guarded(tails, claim, len);                                         \
			MAPRING__UNGUARD;                                                                     \
		} else {                                                                                      \
			mapring__tail_end(tails, claim, len);                                                 \
		}                                                                                             \
		MAPRING__PART(AFTER_TAIL, wakes)(name)                                                        \
		return discarded ? -1 : 0;                                                                    \
	}                                                                                                     \
	/* Publishes a record whose tail has `len` bytes. Returns 0, or -1 if the tail is too long. */        \
	MAPRING__FN long mapring_commit_tail(struct mapring_map__##name *map, record_type *record, __s64 len) \
	{                                                                                                     \
		return mapring__end_tail(map, record, len, 0);                                                \
	}                                                                                                     \
	/* The same, but cuts a tail that is too long. */                                                     \
	MAPRING__FN long mapring_commit_tail_cut(struct mapring_map__##name *map, record_type *record,        \
						 __s64 len)                                                   \
	{                                                                                                     \
		return mapring__end_tail(map, record, len > (longest) ? (longest) : len, 0);                  \
	}                                                                                                     \
	/* Publishes a record without a tail. */                                                              \
	MAPRING__FN void mapring_commit(struct mapring_map__##name *map, record_type *record)                 \
	{                                                                                                     \
		mapring__end_tail(map, record, 0, 0);                                                         \
	}                                                                                                     \
	/* Ends a record without publishing it: readers pass its ticket. */                                   \
	MAPRING__FN void mapring_discard(struct mapring_map__##name *map, record_type *record)                \
	{                                                                                                     \
		mapring__end_tail(map, record, 0, MAPRING__DISCARDED);                                        \
	}                                                                                                     \
	MAPRING__SCOPE(name, record_type)                                                                     \
	MAPRING__OUTPUT(name, record_type)

#define MAPRING__AFTER_TAIL_NO(name)
#define MAPRING__AFTER_TAIL_YES(name) mapring__look__##name(shard, at, words);

MAPRING__NO_RING(mapring_commit_tail, ", which has the option TAILS", ", bytes")
MAPRING__NO_RING(mapring_commit_tail_cut, ", which has the option TAILS", ", bytes")

/* mapring_record for a record with a tail. `tail` is a variable of the program. The end of the block commits `len` bytes of
 * the tail. */
#define mapring_record_with_tail(name, record, tail, len)                                                     \
	MAPRING__SCOPED(name, record, mapring__reserve(&name, &(tail)),                                       \
			mapring_commit_tail(&name, mapring__open_##record, len))

#endif

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reserves records and ends them: the functions that programs call. Those with tails are in tails.bpf.h. */
#ifndef MAPRING_RECORDS_BPF_H
#define MAPRING_RECORDS_BPF_H

#include <mapring/detail/place.bpf.h>
#include <mapring/detail/readers.bpf.h>

/* The slow path is a separate function: the verifier checks it once, and the fast path stays short. */
#define MAPRING__CLAIM(name)                                                                                  \
	MAPRING__SHARED __s64 mapring__claim__##name(__u32 at)                                                \
	{                                                                                                     \
		struct mapring__shard shard = mapring__shard__##name(at);                                     \
		__u64 *head = mapring__header(shard);                                                         \
                                                                                                              \
		if (!head) {                                                                                  \
			mapring__no_shard__##name();                                                          \
			return -1;                                                                            \
		}                                                                                             \
		return mapring__claim(shard.ring, head, shard.base);                                          \
	}

#define MAPRING__RESERVE_PLAIN(name, record_type, slots, longest, bytes, keeps)                               \
	MAPRING__CLAIM(name)                                                                                  \
	MAPRING__FN record_type *mapring_reserve(struct mapring_map__##name *map __attribute__((unused)))     \
	{                                                                                                     \
		__u32 at = mapring__at__##name();                                                             \
		struct mapring__shard shard = mapring__shard__##name(at);                                     \
		__u64 *seq;                                                                                   \
                                                                                                              \
		if (!shard.ring.map) {                                                                        \
			mapring__no_shard__##name();                                                          \
			return 0;                                                                             \
		}                                                                                             \
		seq = mapring__try_fast(shard.ring, mapring__header(shard), shard.base, MAPRING__MARK(slots)); \
		if (!seq) {                                                                                   \
			__s64 claimed = mapring__claim__##name(at);                                           \
			if (claimed < 0)                                                                      \
				return 0;                                                                     \
			seq = mapring__slot(shard.ring, shard.base, claimed);                                 \
			if (!seq)                                                                             \
				return 0;                                                                     \
		}                                                                                             \
		/* The verifier needs the addition to stay behind the checks. */                              \
		asm volatile("" : "+r"(seq));                                                                 \
		return (record_type *)(seq + 1);                                                              \
	}

/* The ends of a record: mapring__end__NAME is its last store, and what follows from it. */
#define MAPRING__ENDS_PLAIN(name, record_type, wakes, longest)                                                \
	static __always_inline void mapring__end__##name(void *record, __u64 discarded)                       \
	{                                                                                                     \
		mapring__end(record, discarded);                                                              \
		MAPRING__PART(AFTER, wakes)(name, record)                                                     \
	}                                                                                                     \
	MAPRING__FN void mapring_commit(struct mapring_map__##name *map __attribute__((unused)),              \
					record_type *record)                                                  \
	{                                                                                                     \
		mapring__end__##name(record, 0);                                                              \
	}                                                                                                     \
	MAPRING__FN void mapring_discard(struct mapring_map__##name *map __attribute__((unused)),             \
					 record_type *record)                                                 \
	{                                                                                                     \
		mapring__end__##name(record, MAPRING__DISCARDED);                                             \
	}                                                                                                     \
	MAPRING__SCOPE(name, record_type)                                                                     \
	MAPRING__OUTPUT(name, record_type)

#define MAPRING__AFTER_NO(name, record)
#define MAPRING__AFTER_YES(name, record)                                                                      \
	__u32 at = mapring__at__##name();                                                                     \
	mapring__look__##name(mapring__shard__##name(at), at, (__u64 *)record - 1);

#define MAPRING__AFTER_REPLACEABLE(name, record)                                                              \
	if (mapring__anyone_sleeps(&name##__readers))                                                         \
		mapring__wake__##name(0);

/* Looks for readers to be woken, after a record of this slot has ended. */
#define MAPRING__LOOK_NO(name)
#define MAPRING__LOOK_YES(name)                                                                               \
	MAPRING__SHARED int mapring__wake__##name(__u32 at, __u32 number)                                     \
	{                                                                                                     \
		struct mapring__shard shard = mapring__shard__##name(at);                                     \
                                                                                                              \
		if (shard.ring.map)                                                                           \
			mapring__wake(&name##__readers, &name##__bells, shard.ring, mapring__header(shard),   \
				      shard.base, number, 0);                                                 \
		return 0;                                                                                     \
	}                                                                                                     \
	static __always_inline void mapring__look__##name(struct mapring__shard shard, __u32 at, __u64 *seq)  \
	{                                                                                                     \
		__u64 number;                                                                                 \
                                                                                                              \
		if (!shard.ring.map)                                                                          \
			return;                                                                               \
		number = mapring__number(shard.ring, shard.base, seq);                                        \
		if (mapring__sleeps(shard.ring, &name##__readers, number))                                    \
			mapring__wake__##name(at, number);                                                    \
	}

/* What the compiler says about a call that no ring has: only the ring knows all of what ends a record. */
#define MAPRING__NO_RING(end, of, rest)                                                                       \
	MAPRING__FN void end(const void *map, ...) __attribute__((unavailable(                                \
		"mapring: name the ring, and a record of this ring" of ": " #end "(&ring, record" rest ")")));

MAPRING__NO_RING(mapring_commit, "", "")
MAPRING__NO_RING(mapring_discard, "", "")

/* At the end of a scope that has a record: discards it, unless it was committed. */
#define MAPRING__SCOPE(name, record_type)                                                                     \
	static __always_inline __attribute__((unused)) void mapring__leave__##name(record_type **mapring__left) \
	{                                                                                                     \
		if (*mapring__left)                                                                           \
			mapring_discard(&name, *mapring__left);                                               \
	}

/*
 * A record for one block, which is skipped if the record is dropped. The end of the block commits the record. `return`,
 * `break` and `goto` out of the block discard it. So no path can forget to end it. clang makes the same instructions of
 * it as of a reserve and its ends.
 */
#define mapring_record(name, record)                                                                          \
	MAPRING__SCOPED(name, record, mapring_reserve(&name), mapring_commit(&name, mapring__open_##record))

#define MAPRING__SCOPED(name, record, reserved, commit)                                                       \
	for (__typeof__(reserved) record = reserved, mapring__open_##record                                   \
					__attribute__((cleanup(mapring__leave__##name))) = record;            \
	     mapring__open_##record; commit, mapring__open_##record = 0)

/* mapring_reserve_zeroed and mapring_output of a map, built on its mapring_reserve and mapring_commit. */
#define MAPRING__OUTPUT(name, record_type)                                                                    \
	MAPRING__FN record_type *mapring_reserve_zeroed(struct mapring_map__##name *map)                      \
	{                                                                                                     \
		record_type *record = mapring_reserve(map);                                                   \
                                                                                                              \
		if (record)                                                                                   \
			mapring__zero(record, sizeof(*record));                                               \
		return record;                                                                                \
	}                                                                                                     \
	MAPRING__COPIES(record_type, "reserve the record and fill it in place")                               \
	MAPRING__FN long mapring_output(struct mapring_map__##name *map, const record_type *ready)            \
	{                                                                                                     \
		record_type *record = mapring_reserve(map);                                                   \
                                                                                                              \
		if (!record)                                                                                  \
			return -1;                                                                            \
		__builtin_memcpy(record, ready, sizeof(*record));                                             \
		mapring_commit(map, record);                                                                  \
		return 0;                                                                                     \
	}

/* Zeroes a record of any size in whole words: the bytes after it, up to the next word, belong to its slot. */
static __always_inline void mapring__zero(void *record, __u32 size)
{
	/* Volatile: otherwise clang makes it a memset, which it refuses for more than 1024 bytes. */
	volatile __u64 *words = record;

	for (__u32 i = 0; i < MAPRING__ROUND_UP(size, 8) / 8; i++)
		words[i] = 0;
}

#endif

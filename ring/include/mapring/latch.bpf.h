/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Latches: values that userspace writes, and that programs in any context read, always whole.
 *
 *	struct limits { __u64 bytes, packets; };
 *	MAPRING_LATCH(limits, struct limits);			// or a table: MAPRING_LATCHES(…, 16)
 *
 *	struct limits now;
 *	if (mapring_latch_read(&limits, 0, &now) == 0)		// -1: no such latch, or see below
 *		…
 *	mapring_latch_set(&limits, 0, &now);			// for its only writer: see below; 0 or -1
 *
 * A latch has two copies, and the writer fills the one that is not in use. So a program reads a whole value even
 * if it interrupts the writer, or the writer died. A read retries only if a whole write happened during it. It gives up
 * after MAPRING__MAX_TRIES attempts, which happens only if the writer never pauses.
 *
 * `mapring_latch_set` is only for a latch that never has another writer at the same time: neither userspace nor another
 * program. What a drain of commands applies (commands.bpf.h) is such a writer.
 */
#ifndef MAPRING_LATCH_BPF_H
#define MAPRING_LATCH_BPF_H

#include <mapring/detail/atomic.bpf.h>

#undef MAPRING_LATCH
#define MAPRING_LATCH(name, value_type) MAPRING_LATCHES(name, value_type, 1)

#undef MAPRING_LATCHES
#define MAPRING_LATCHES(name, value_type, count)                                                   \
	struct mapring_latch__##name {                                                             \
		__u64 seq;                                                                         \
		value_type record;                                                                 \
		value_type other __attribute__((aligned(8)));                                      \
		MAPRING__TAG(count);                                                               \
	};                                                                                         \
	_Static_assert((count) > 0, "mapring: a table needs a latch");                             \
	MAPRING__COUNT_CHECK(name, count, "latches")                                               \
	MAPRING__TYPE_CHECKS(value_type, "values")                                                 \
	MAPRING__MAP(latch, name, MAPRING__FIRST(sizeof(struct mapring_latch__##name)) + (count)); \
                                                                                                   \
	MAPRING__COPIES(value_type, "make several latches of it")                                  \
	MAPRING__FN long mapring_latch_read(struct mapring_map__##name *map, __u32 index,          \
					    value_type *out)                                       \
	{                                                                                          \
		__u32 first = MAPRING__FIRST(sizeof(struct mapring_latch__##name));                \
		/* A sum that wraps is not an index. */                                            \
		__u64 *seq = index + first < first ? 0 : mapring__word(map, first + index);        \
                                                                                                   \
		return seq ? mapring__latch_read(seq, out, sizeof(*out)) : -1;                     \
	}                                                                                          \
                                                                                                   \
	MAPRING__COPIES(value_type, "make several latches of it")                                  \
	MAPRING__FN long mapring_latch_set(struct mapring_map__##name *map, __u32 index,           \
					   const value_type *value)                                \
	{                                                                                          \
		__u32 first = MAPRING__FIRST(sizeof(struct mapring_latch__##name));                \
		__u64 *seq = index + first < first ? 0 : mapring__word(map, first + index);        \
                                                                                                   \
		if (!seq)                                                                          \
			return -1;                                                                 \
		mapring__latch_set(seq, value, sizeof(*value));                                    \
		return 0;                                                                          \
	}

static __always_inline long mapring__latch_read(__u64 *seq, void *out, unsigned long size)
{
	for (int i = 0; i < MAPRING__MAX_TRIES; i++) {
		__u64 seen = mapring__load(seq);
		__u64 odd = seen & 1;

		mapring__barrier(); /* SYNC publish: pairs with the store that ends `set` */
		/* Opaque: otherwise clang makes the next line a branch, and the verifier takes both sides. */
		asm volatile("" : "+r"(odd));
		__builtin_memcpy(out, seq + 1 + odd * (MAPRING__ROUND_UP(size, 8UL) / 8), size);
		mapring__barrier(); /* SYNC claim: pairs with the fence that begins `set` */
		if (mapring__load(seq) == seen)
			return 0;
	}
	return -1;
}

static __always_inline void mapring__latch_set(__u64 *seq, const void *value, unsigned long size)
{
	__u64 next = mapring__load(seq) + 1;
	__u64 odd = next & 1;

	mapring__barrier(); /* SYNC claim: pairs with the second barrier of a read */
	asm volatile("" : "+r"(odd)); /* as above */
	__builtin_memcpy(seq + 1 + odd * (MAPRING__ROUND_UP(size, 8UL) / 8), value, size);
	mapring__publish(seq, next);
}

#endif

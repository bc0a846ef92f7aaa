/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Counters: a bank of __u64 for each CPU, on its own cache lines.
 *
 *	MAPRING_COUNTERS(calls, 512);			// counters per CPU
 *
 *	mapring_counter_add(&calls, index, bytes);
 *	mapring_counter_inc(&calls, index);
 *
 * Each call is one locked, relaxed addition. It is exact even if a program interrupts or preempts this one on the
 * same CPU, and orders nothing. The preamble counts calls with an index out of range, or on a CPU without a bank.
 */
#ifndef MAPRING_COUNTERS_BPF_H
#define MAPRING_COUNTERS_BPF_H

#include <mapring/detail/atomic.bpf.h>

#undef MAPRING_COUNTERS
#define MAPRING_COUNTERS(name, count) \
	MAPRING__COUNTERS(MAPRING__MAP, counters, name, count, bpf_get_smp_processor_id())

/* Counters in a map that `make_map` declares. This CPU uses the bank `bank`. */
#define MAPRING__COUNTERS(make_map, kind, name, count, bank)                                       \
	struct mapring_##kind##__##name {                                                          \
		__u64 words[MAPRING__ROUND_UP((count) * 8UL, MAPRING__LINE) / 8];                  \
		MAPRING__TAG(count);                                                               \
	};                                                                                         \
	_Static_assert((count) > 0, "mapring: a bank needs a counter");                            \
	make_map(kind, name, MAPRING__FIRST(sizeof(struct mapring_##kind##__##name)) + 1);         \
                                                                                                   \
	MAPRING__FN void mapring_counter_add(struct mapring_map__##name *map, __u32 index, __u64 by)       \
	{                                                                                          \
		mapring__add(map, sizeof(struct mapring_##kind##__##name), bank, count, index, by); \
	}                                                                                          \
	MAPRING__FN void mapring_counter_inc(struct mapring_map__##name *map, __u32 index)                 \
	{                                                                                          \
		mapring_counter_add(map, index, 1);                                                        \
	}

static __always_inline void mapring__add(void *map, __u32 size, __u32 bank, __u32 count, __u64 index,
					 __u64 by)
{
	__u64 *words = 0;

	/* The check and the use must be of one register: otherwise the verifier loses the bound. */
	asm volatile("" : "+r"(index));
	if (index < count)
		words = mapring__word(map, MAPRING__FIRST((unsigned long)size) + bank);
	if (words)
		mapring__count(words + index, by);
	else
		mapring__count_out_of_range(map, size);
}

#endif

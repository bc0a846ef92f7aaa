/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Gauges: the smallest and the largest value of each millisecond (2^20 ns), for the last 1024 milliseconds in which
 * a CPU set the gauge. Readers see every peak, however rarely they read within a second.
 *
 *	MAPRING_GAUGES(depths, 16);			// 16 gauges
 *
 *	mapring_gauge_set(&depths, index, depth);
 *	mapring_gauge_set_at(&depths, index, depth, ns); // for programs that have read bpf_ktime_get_ns()
 *
 * Values have 36 bits; larger ones count as 2^36 - 1. A value between the current minimum and maximum costs only loads.
 * No value is lost if a program interrupts or preempts this one on the same CPU, unless four do so between a load and
 * the compare-and-swap behind it. The preamble counts values that are not recorded: these, values more than a second
 * late, an index out of range, a CPU without a bank.
 */
#ifndef MAPRING_GAUGE_BPF_H
#define MAPRING_GAUGE_BPF_H

#include <mapring/detail/atomic.bpf.h>

#undef MAPRING_GAUGE
#define MAPRING_GAUGE(name) MAPRING_GAUGES(name, 1)

#undef MAPRING_GAUGES
#define MAPRING_GAUGES(name, count)                                                                \
	struct mapring_gauges__##name {                                                            \
		__u64 words[(count) * MAPRING__GAUGE_WORDS];                                       \
		MAPRING__TAG(count);                                                               \
	};                                                                                         \
	_Static_assert((count) > 0, "mapring: at least one gauge");                                \
	MAPRING__MAP(gauges, name, MAPRING__FIRST(sizeof(struct mapring_gauges__##name)) + 1);     \
                                                                                                   \
	MAPRING__FN void mapring_gauge_set_at(struct mapring_map__##name *map, __u32 index, __u64 value, \
					      __u64 ns)                                            \
	{                                                                                          \
		mapring__gauge_set(map, sizeof(struct mapring_gauges__##name), count, index, value, ns >> 20); \
	}                                                                                          \
	MAPRING__FN void mapring_gauge_set(struct mapring_map__##name *map, __u32 index, __u64 value) \
	{                                                                                          \
		mapring_gauge_set_at(map, index, value, bpf_ktime_get_ns());                       \
	}

/* Replaces a word by a larger one. Returns whether it holds a value of the same window, at least as large. */
static __always_inline int mapring__raise(__u64 *word, __u64 value)
{
	__u64 seen = mapring__load(word), found;

#pragma unroll
	for (int i = 0; i < MAPRING__MAX_TRIES; i++) {
		if (seen >= value)
			return (seen ^ value) >> MAPRING__GAUGE_BITS == 0;
		found = mapring__cmpxchg(word, seen, value);
		if (found == seen)
			return 1;
		seen = found;
	}
	return 0;
}

static __always_inline void mapring__gauge_set(void *map, __u32 size, __u32 count, __u64 index, __u64 value,
					       __u64 window)
{
	/* A later window is a larger number, and so is a larger value; 0 is an unused word. */
	__u64 turn = (window / MAPRING__GAUGE_WINDOWS + 1) << MAPRING__GAUGE_BITS;
	__u64 at = index * MAPRING__GAUGE_WORDS + 2 * (window % MAPRING__GAUGE_WINDOWS);
	__u64 *words = 0;
	int max, min;

	if (value > MAPRING__GAUGE_MAX)
		value = MAPRING__GAUGE_MAX;
	/* The check and the use must be of one register: otherwise the verifier loses the bound. */
	asm volatile("" : "+r"(at));
	if (at < count * MAPRING__GAUGE_WORDS - 1)
		words = mapring__word(map, MAPRING__FIRST((unsigned long)size) + bpf_get_smp_processor_id());
	if (words) {
		words += at;
		/* In this order: a reader that sees the minimum sees a maximum that is at least as large. */
		max = mapring__raise(words, turn | value);
		min = mapring__raise(words + 1, turn | (MAPRING__GAUGE_MAX - value));
		if (max && min)
			return;
	}
	mapring__count_out_of_range(map, size);
}

#endif

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Histograms: 496 counters for each CPU, on their own cache lines. Values below 16 have a counter each. From there
 * on, each power of two has 8 counters: a value is known within 12.5 %.
 *
 *	MAPRING_HISTOGRAMS(latencies, 16);		// 16 histograms
 *
 *	mapring_histogram_add(&latencies, index, ns);
 *
 * Each call is one locked, relaxed addition. It is exact even if a program interrupts or preempts this one on the
 * same CPU, and orders nothing. The preamble counts calls with an index out of range, or on a CPU without a bank.
 */
#ifndef MAPRING_HISTOGRAM_BPF_H
#define MAPRING_HISTOGRAM_BPF_H

#include <mapring/counters.bpf.h>

#undef MAPRING_HISTOGRAM
#define MAPRING_HISTOGRAM(name) MAPRING_HISTOGRAMS(name, 1)

#undef MAPRING_HISTOGRAMS
#define MAPRING_HISTOGRAMS(name, count)                                                            \
	struct mapring_histograms__##name {                                                        \
		__u64 words[(count) * MAPRING__HISTOGRAM_WORDS];                                   \
		MAPRING__TAG(count);                                                               \
	};                                                                                         \
	_Static_assert((count) > 0, "mapring: at least one histogram");                            \
	MAPRING__MAP(histograms, name, MAPRING__FIRST(sizeof(struct mapring_histograms__##name)) + 1); \
                                                                                                   \
	MAPRING__FN void mapring_histogram_add(struct mapring_map__##name *map, __u32 index, __u64 value) \
	{                                                                                          \
		__u32 bank = bpf_get_smp_processor_id();                                           \
                                                                                                   \
		/* The bucket after the call: in its middle, the call would cost saved registers. */ \
		asm volatile("" : "+r"(value));                                                    \
		/* In range only if the index is: a bucket is less than MAPRING__HISTOGRAM_BUCKETS. */ \
		mapring__add(map, sizeof(struct mapring_histograms__##name), bank,                 \
			     (count) * MAPRING__HISTOGRAM_WORDS,                                   \
			     index * MAPRING__HISTOGRAM_WORDS + mapring__bucket(value), 1);        \
	}

/* 1 if `bits` has more than `count` bits, else 0. Without a branch: the verifier would follow both sides. */
static __always_inline __u64 mapring__has_more(__u64 bits, int count)
{
	__u64 less = ((1ULL << count) - 1) - bits; /* has its highest bit set if it is negative: bits < 2^60 */

	asm volatile("" : "+r"(less)); /* clang would make a comparison of this */
	return less >> 63;
}

/*
 * The number of the bucket that counts `value`. A bucket has 2^shift values, and shift is the number of bits of
 * value >> 4. BPF has no instruction that finds the highest bit. So this takes 16 bits at a time, then 4, and looks
 * up the rest in a constant.
 */
static __always_inline __u64 mapring__bucket(__u64 value)
{
	const __u64 bits_of = 0x4444444433332210ULL; /* of 0 to 15 */
	__u64 bits = value >> 4, shift = 0, more;

#pragma unroll
	for (int unit = 16; unit >= 4; unit /= 4) {
		more = mapring__has_more(bits, unit) + mapring__has_more(bits, 2 * unit) +
		       mapring__has_more(bits, 3 * unit);
		more *= unit;
		bits >>= more;
		shift += more;
	}
	shift += bits_of >> (4 * bits) & 7;
	return shift * 8 + (value >> shift);
}

#endif

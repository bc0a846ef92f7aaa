/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Top keys: which keys have most events or bytes. Keys are any __u64: processes, cgroups, addresses.
 *
 *	MAPRING_TOP_KEYS(senders, 256);			// buckets per CPU, a power of two
 *
 *	mapring_top_add(&senders, pid, bytes);
 *
 * Each bucket counts ten keys. When another key comes, it takes the place of the one with the smallest count, and
 * begins with that count as its error. Each call takes one compare-and-swap and 22 loads. A program that
 * interrupts or preempts this one in the same bucket adds its amount to no key, but to the `other` of the bucket. The
 * preamble counts calls on a CPU without a table.
 */
#ifndef MAPRING_TOP_BPF_H
#define MAPRING_TOP_BPF_H

#include <mapring/cell.bpf.h>

#undef MAPRING_TOP_KEYS
#define MAPRING_TOP_KEYS(name, buckets)                                                            \
	struct mapring_top__##name {                                                               \
		__u64 words[MAPRING__BUCKET_WORDS];                                                \
		MAPRING__TAG(buckets);                                                             \
	};                                                                                         \
	_Static_assert((buckets) > 0 && ((buckets) & ((buckets) - 1)) == 0,                        \
		       "mapring: the number of buckets is a power of two");                        \
	MAPRING__COUNT_CHECK(name, buckets, "buckets")                                             \
	MAPRING__MAP(top, name, MAPRING__FIRST(8 * MAPRING__BUCKET_WORDS) + (buckets));            \
                                                                                                   \
	MAPRING__FN void mapring_top_add(struct mapring_map__##name *map, __u64 key, __u64 amount) \
	{                                                                                          \
		mapring__top_add(map, buckets, key, amount);                                       \
	}

#define MAPRING__IS_NEW (1ULL << 62)

/*
 * The entry of a key: the key's own, or else the one with the smallest count, with the bit MAPRING__IS_NEW. Without
 * branches, since the verifier would follow both sides of each. Entries are used in their order, so that the key's own
 * is before the free ones, whose key is 0. Counts are compared up to 2^58.
 */
static __always_inline __u64 mapring__entry(const __u64 *words, __u64 key)
{
	__u64 least = ~0ULL >> 1;

#pragma unroll
	for (int way = 0; way < MAPRING__TOP_WAYS; way++) {
		__u64 count = mapring__load(words + MAPRING__TOP_COUNTS + way) << 6 >> 2;
		__u64 other = mapring__load(words + MAPRING__TOP_KEYS + way) ^ key;
		__u64 next, less;

		/* All bits are set if it is another key. clang would make comparisons of this, and of the next. */
		other |= -other;
		asm volatile("" : "+r"(other));
		other = (long long)other >> 63;
		asm volatile("" : "+r"(other));
		next = way | (other & (MAPRING__IS_NEW | count));
		less = next - least;
		asm volatile("" : "+r"(less));
		less = (long long)less >> 63;
		asm volatile("" : "+r"(less));
		least ^= (least ^ next) & less;
	}
	return least;
}

static __always_inline void mapring__top_add(void *map, __u32 buckets, __u64 key, __u64 amount)
{
	__u32 bucket = ((key ^ key >> 32) * 0x9e3779b97f4a7c15ULL >> 32) & (buckets - 1);
	__u64 *words = mapring__word(map, MAPRING__FIRST(8 * MAPRING__BUCKET_WORDS) +
						  bpf_get_smp_processor_id() * buckets + bucket);
	__u64 entry, way, before;

	if (!words) {
		mapring__count_out_of_range(map, 8 * MAPRING__BUCKET_WORDS);
		return;
	}
	/* From here on, no other program changes the entries. */
	if (!mapring__claim_cell(words)) {
		mapring__count(words + MAPRING__TOP_OTHER, amount);
		return;
	}
	entry = mapring__entry(words, key);
	way = entry & 15;
	/* The check and the use must be of one register: otherwise the verifier loses the bound. */
	asm volatile("" : "+r"(way));
	if (way < MAPRING__TOP_WAYS) {
		before = mapring__load(words + MAPRING__TOP_COUNTS + way);
		if (entry & MAPRING__IS_NEW) {
			mapring__store(words + MAPRING__TOP_KEYS + way, key);
			mapring__store(words + MAPRING__TOP_ERRORS + way, before);
		}
		mapring__store(words + MAPRING__TOP_COUNTS + way, before + amount);
	}
	mapring_cell_end(words + 1);
}

#endif

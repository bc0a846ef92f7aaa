/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Where the shards of a ring are: the maps, and how a program finds its CPU's shard. For each ring this defines
 *
 *	mapring__at__NAME()		a number from which functions of their own find the shard again
 *	mapring__shard__NAME(at)	the shard; its map is NULL if this CPU has none
 *	mapring__no_shard__NAME()	counts a record of a CPU without a shard
 */
#ifndef MAPRING_PLACE_BPF_H
#define MAPRING_PLACE_BPF_H

#include <mapring/detail/claim.bpf.h>
#include <mapring/detail/options.bpf.h>
#include <mapring/detail/tail_claim.bpf.h>

#define MAPRING__F_NUMA_NODE (1U << 2)
#define MAPRING__F_INNER_MAP (1U << 12)

/* A CPU's shard, with the element of its header. */
struct mapring__shard {
	struct mapring__ring ring;
	__u32 base;
};

/* The shard's header, which begins with `head`. NULL if there is no shard. */
static __always_inline __u64 *mapring__header(struct mapring__shard shard)
{
	if (!shard.ring.map)
		return 0;
	if (shard.ring.size & MAPRING__IN_SHARD)
		return (__u64 *)shard.ring.map - MAPRING__TAIL_SLOTS;
	return mapring__word(shard.ring.map, shard.base);
}

/* The value of a ring's map: a slot. */
#define MAPRING__VALUE_PLAIN(name, record_type, slots, longest, bytes, bits)                                  \
	struct mapring_ring__##name {                                                                         \
		__u64 seq;                                                                                    \
		record_type record;                                                                           \
		MAPRING__TAG(slots);                                                                          \
		__u8 mapring_options[0][bits];                                                                \
	};

/* The same with tails: a whole shard, because helpers can't write across values. */
#define MAPRING__VALUE_TAILED(name, record_type, slots, longest, bytes, bits)                                 \
	struct mapring_tailed__##name {                                                                       \
		__u64 tail_at;                                                                                \
		__u64 tail_len;                                                                               \
		record_type record;                                                                           \
	};                                                                                                    \
	struct mapring_slot__##name {                                                                         \
		__u64 seq;                                                                                    \
		struct mapring_tailed__##name record;                                                         \
	};                                                                                                    \
	struct mapring_ring__##name {                                                                         \
		__u64 preamble[MAPRING__PREAMBLE / 8]; /* in the first shard */                               \
		__u64 header[MAPRING__TAIL_SLOTS];                                                            \
		struct mapring_slot__##name slot[slots];                                                      \
		__u8 area[(bytes) + MAPRING__ROUND_UP(longest, MAPRING__LINE)]                                \
			__attribute__((aligned(MAPRING__LINE)));                                              \
		MAPRING__TAG(slots);                                                                          \
		__u8 mapring_options[0][bits];                                                                \
		__u8 mapring_longest[0][longest];                                                             \
		__u8 mapring_tails[0][bytes];                                                                 \
	};                                                                                                    \
	_Static_assert((bytes) >= 128 && ((bytes) & ((bytes) - 1)) == 0,                                      \
		       "mapring: the bytes of tails of " #name " must be a power of two, at least 128");      \
	_Static_assert((longest) > 0 && (longest) <= (bytes) / 2,                                             \
		       "mapring: the longest tail of " #name " must fit twice into its bytes");

/* The elements of a map with one shard. */
#define MAPRING__ENTRIES_PLAIN(name, slots)                                                                   \
	(MAPRING__FIRST(sizeof(struct mapring_ring__##name)) +                                                \
	 MAPRING__SHARD(sizeof(struct mapring_ring__##name), slots))
#define MAPRING__ENTRIES_TAILED(name, slots) 1

/* The map of the name. */
#define MAPRING__MAPS_ONE_MAP(name, entries)                                                                  \
	struct mapring_map__##name {                                                                          \
		__uint(type, MAPRING__MAP_TYPE_ARRAY);                                                        \
		__uint(map_flags, MAPRING__F_MMAPABLE);                                                       \
		__uint(max_entries, entries);                                                                 \
		__type(key, __u32);                                                                           \
		__type(value, struct mapring_ring__##name);                                                   \
	} name MAPRING__IN_MAPS;
/* Maps of maps take only maps with the same flags, on any node. The loader sets each map's node. Until then it is node 0:
 * a field numa_node would say the same, but cilium/ebpf refuses objects that have one. */
#define MAPRING__MAPS_PER_CPU_MAPS(name, entries) MAPRING__MAPS_OF_MAPS(name, entries, MAPRING__F_NUMA_NODE)
#define MAPRING__MAPS_RESIZABLE(name, entries) MAPRING__MAPS_OF_MAPS(name, entries, MAPRING__F_INNER_MAP)

#define MAPRING__MAPS_OF_MAPS(name, entries, flag)                                                            \
	struct mapring_inner__##name {                                                                        \
		__uint(type, MAPRING__MAP_TYPE_ARRAY);                                                        \
		__uint(map_flags, MAPRING__F_MMAPABLE | flag);                                                \
		__uint(max_entries, entries);                                                                 \
		__type(key, __u32);                                                                           \
		__type(value, struct mapring_ring__##name);                                                   \
	} name##__first MAPRING__IN_MAPS;                                                                     \
	struct mapring_map__##name {                                                                          \
		__uint(type, MAPRING__MAP_TYPE_ARRAY_OF_MAPS);                                                \
		__uint(max_entries, 1);                                                                       \
		__type(key, __u32);                                                                           \
		__array(values, struct mapring_inner__##name);                                                \
	} name MAPRING__IN_MAPS = { .values = { &name##__first } };

/* The map that counts records of CPUs without a shard. */
#define MAPRING__COUNTS_ONE_MAP(name) &name
#define MAPRING__COUNTS_PER_CPU_MAPS(name) mapring__word(&name, 0)

/* The parameter `limits` is the map of required readers, or 0. No local name here may also be a map's name. */
#define MAPRING__SHARD_OF(name, slots, where, found, first, words, limits)                                    \
	static __always_inline struct mapring__shard mapring__shard__##name(__u32 mapring__at)                \
	{                                                                                                     \
		void *mapring__map = found;                                                                   \
                                                                                                              \
		return (struct mapring__shard){ { mapring__map, words, MAPRING__LOG2(slots), limits }, first }; \
	}                                                                                                     \
	static __always_inline void mapring__no_shard__##name(void)                                           \
	{                                                                                                     \
		void *mapring__map = MAPRING__PART(COUNTS, where)(name);                                      \
                                                                                                              \
		if (mapring__map)                                                                             \
			mapring__count_out_of_range(mapring__map, sizeof(struct mapring_ring__##name));       \
	}

/* Out-of-line functions take the header's element, which the caller already has. In other rings they take the CPU number. */
#define MAPRING__SHARD_ONE_MAP_PLAIN(name, slots, limits)                                                     \
	static __always_inline __u32 mapring__at__##name(void)                                                \
	{                                                                                                     \
		return mapring__base(sizeof(struct mapring_ring__##name), slots);                             \
	}                                                                                                     \
	MAPRING__SHARD_OF(name, slots, ONE_MAP, &name, mapring__at, sizeof(struct mapring_ring__##name), limits)

#define MAPRING__SHARD_PER_CPU_MAPS_PLAIN(name, slots, limits)                                                \
	MAPRING__AT_CPU(name)                                                                                 \
	MAPRING__SHARD_OF(name, slots, PER_CPU_MAPS, mapring__word(&name, mapring__at),                       \
			  MAPRING__FIRST(sizeof(struct mapring_ring__##name)),                                \
			  sizeof(struct mapring_ring__##name), limits)

#define MAPRING__SHARD_ONE_MAP_TAILED(name, slots, limits)                                                    \
	MAPRING__AT_CPU(name)                                                                                 \
	MAPRING__SHARD_OF(name, slots, ONE_MAP, mapring__slots_in(mapring__word(&name, mapring__at)), 0,      \
			  sizeof(struct mapring_slot__##name) | MAPRING__IN_SHARD, limits)

#define MAPRING__SHARD_PER_CPU_MAPS_TAILED(name, slots, limits)                                               \
	MAPRING__AT_CPU(name)                                                                                 \
	MAPRING__SHARD_OF(name, slots, PER_CPU_MAPS, mapring__slots_in(mapring__first(mapring__word(&name, mapring__at))), 0, \
			  sizeof(struct mapring_slot__##name) | MAPRING__IN_SHARD, limits)

#define MAPRING__AT_CPU(name)                                                                                 \
	static __always_inline __u32 mapring__at__##name(void)                                                \
	{                                                                                                     \
		return bpf_get_smp_processor_id();                                                            \
	}

/* The first value of a map that was looked up. */
static __always_inline __u64 *mapring__first(void *map)
{
	return map ? mapring__word(map, 0) : 0;
}

/* The slots of a shard with tails. */
static __always_inline __u64 *mapring__slots_in(__u64 *shard)
{
	if (!shard)
		return 0;
	/* The verifier needs the addition to stay behind the check. */
	asm volatile("" : "+r"(shard));
	return shard + MAPRING__PREAMBLE / 8 + MAPRING__TAIL_SLOTS;
}

#endif

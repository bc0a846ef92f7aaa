/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * A ring whose shards are on the NUMA nodes of their CPUs. It is like ring.bpf.h, but each shard is a separate map,
 * in an array of maps indexed by the CPU's number.
 *
 *	MAPRING_NUMA_RING(events, struct event, 4096);		// slots per CPU
 *
 *	struct event *e = mapring_reserve(&events);		// everything else as for MAPRING_RING
 *
 * Claims are the same, but a program first looks up its CPU's map. The load of the object creates the first CPU's map.
 * The loader creates the others (mapring::loader::initialize). Until then records of other CPUs are dropped, and
 * counted.
 */
#ifndef MAPRING_NUMA_BPF_H
#define MAPRING_NUMA_BPF_H

#include <mapring/detail/claim.bpf.h>

#define MAPRING__F_NUMA_NODE (1U << 2)

#undef MAPRING_NUMA_RING
#define MAPRING_NUMA_RING(name, record_type, slots)                                              \
	struct mapring_numa_ring__##name {                                                       \
		__u64 seq;                                                                       \
		record_type record;                                                              \
		MAPRING__TAG(slots);                                                             \
	};                                                                                       \
	MAPRING__RING_CHECKS(name, record_type, slots)                                           \
	/* Maps of maps take only maps with the same flags, on any node. */                      \
	struct mapring_shard__##name {                                                           \
		__uint(type, MAPRING__MAP_TYPE_ARRAY);                                           \
		__uint(map_flags, MAPRING__F_MMAPABLE | MAPRING__F_NUMA_NODE);                   \
		__uint(numa_node, 0); /* a loader sets each map's node */                        \
		__uint(max_entries, MAPRING__FIRST(sizeof(struct mapring_numa_ring__##name)) +   \
					    MAPRING__SHARD(sizeof(struct mapring_numa_ring__##name), slots)); \
		__type(key, __u32);                                                              \
		__type(value, struct mapring_numa_ring__##name);                                 \
	} name##__first __weak SEC(".maps");                                                            \
	struct mapring_map__##name {                                                             \
		__uint(type, MAPRING__MAP_TYPE_ARRAY_OF_MAPS);                                   \
		__uint(max_entries, 1);                                                          \
		__type(key, __u32);                                                              \
		__array(values, struct mapring_shard__##name);                                   \
	} name __weak SEC(".maps") = { .values = { &name##__first } };                                  \
	MAPRING__NUMA_API(name, record_type, slots)                                              \
	MAPRING__ENDS(name, record_type)                                                         \
	MAPRING__OUTPUT(name, record_type)

#define MAPRING__NUMA_API(name, record_type, slots)                                              \
	/* The ring of one CPU. It has one shard. Its map is NULL if the CPU has none. */        \
	static __always_inline struct mapring__ring mapring__ring__##name(__u32 cpu)             \
	{                                                                                        \
		return (struct mapring__ring){ mapring__word(&name, cpu),                        \
					       sizeof(struct mapring_numa_ring__##name),         \
					       MAPRING__LOG2(slots), 0 };                        \
	}                                                                                        \
	MAPRING__SHARED __s64 mapring__claim__##name(__u32 cpu)                        \
	{                                                                                        \
		struct mapring__ring ring = mapring__ring__##name(cpu);                          \
		__u32 base = MAPRING__FIRST(ring.size);                                          \
                                                                                                 \
		if (!ring.map)                                                                   \
			return -1;                                                               \
		return mapring__claim(ring, mapring__word(ring.map, base), base);                \
	}                                                                                        \
	MAPRING__FN record_type *mapring_reserve(struct mapring_map__##name *map)                \
	{                                                                                        \
		__u32 cpu = bpf_get_smp_processor_id();                                          \
		struct mapring__ring ring = mapring__ring__##name(cpu);                          \
		__u32 base = MAPRING__FIRST(ring.size);                                          \
                                                                                                 \
		if (!ring.map) {                                                                 \
			ring.map = mapring__word(map, 0);                                        \
			if (ring.map)                                                            \
				mapring__count_out_of_range(ring.map, ring.size);                            \
			return 0;                                                                \
		}                                                                                \
		MAPRING__RESERVE(record_type, ring, base, slots, mapring__claim__##name(cpu));          \
	}

#endif

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Per-CPU cells and counters, in a PERCPU_ARRAY. Programs write them as in cell.bpf.h and counters.bpf.h, but
 * always the copy of this CPU.
 *
 *	struct load { __u64 ns, tasks; };
 *	MAPRING_PERCPU_CELLS(loads, struct load, 16);		// a table of 16 for each CPU
 *	MAPRING_PERCPU_COUNTERS(calls, 512);			// a bank of 512 for each CPU
 *
 *	struct load *l = mapring_cell_begin(&loads, i);		// then mapring_cell_end, as usual
 *	mapring_counter_inc(&calls, i);
 *
 * Programs can read the copy of any CPU (Linux 5.19 and later):
 *
 *	struct load there;
 *	if (mapring_cell_read(&loads, cpu, i, &there) == 0)	// -1: no such cell, or it is being written
 *		...
 *	__u64 n = mapring_counter_read(&calls, cpu, i);		// 0 if it does not exist
 *
 * The kernel does not map such maps. Userspace reads them by system call, all CPUs at once.
 * A value has at most 32 KiB.
 */
#ifndef MAPRING_PERCPU_BPF_H
#define MAPRING_PERCPU_BPF_H

#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>

#define MAPRING__MAP_TYPE_PERCPU_ARRAY 6
#define MAPRING__PERCPU_MAX (32UL << 10)

#define MAPRING__PERCPU_MAP(kind, name, entries)                                                    \
	MAPRING__MAP_CHECKS(kind, name);                                                            \
	_Static_assert(sizeof(struct mapring_##kind##__##name) <= MAPRING__PERCPU_MAX,              \
		       "mapring: a value of a per-CPU map has 32 KiB at most");                     \
	struct mapring_map__##name {                                                                \
		__uint(type, MAPRING__MAP_TYPE_PERCPU_ARRAY);                                       \
		__uint(max_entries, entries);                                                       \
		__type(key, __u32);                                                                 \
		__type(value, struct mapring_##kind##__##name);                                     \
	} name MAPRING__IN_MAPS

#undef MAPRING_PERCPU_CELL
#define MAPRING_PERCPU_CELL(name, value_type) MAPRING_PERCPU_CELLS(name, value_type, 1)

#undef MAPRING_PERCPU_CELLS
#define MAPRING_PERCPU_CELLS(name, value_type, count)                                               \
	MAPRING__CELLS(MAPRING__PERCPU_MAP, percpu_cell, name, value_type, count)                   \
                                                                                                    \
	MAPRING__COPIES(value_type, "make several cells of it")                                     \
	MAPRING__FN long mapring_cell_read(struct mapring_map__##name *map, __u32 cpu, __u32 index, \
					   value_type *out)                                         \
	{                                                                                           \
		__u32 first = MAPRING__FIRST(sizeof(struct mapring_percpu_cell__##name));           \
		/* A sum that wraps is not an index. */                                             \
		__u64 *seq = index + first < first ? 0 : mapring__word_of(map, first + index, cpu); \
                                                                                                    \
		if (!seq)                                                                           \
			return -1;                                                                  \
		for (int i = 0; i < MAPRING__MAX_TRIES; i++) {                                      \
			__u64 seen = mapring__load(seq);                                            \
                                                                                                    \
			mapring__barrier(); /* SYNC publish: pairs with the store that ends a write */ \
			__builtin_memcpy(out, seq + 1, sizeof(*out));                               \
			mapring__barrier(); /* SYNC claim: pairs with the swap that begins a write */ \
			if (!(seen & 1) && mapring__load(seq) == seen)                              \
				return 0;                                                           \
		}                                                                                   \
		return -1;                                                                          \
	}

#undef MAPRING_PERCPU_COUNTERS
#define MAPRING_PERCPU_COUNTERS(name, count)                                                        \
	MAPRING__COUNTERS(MAPRING__PERCPU_MAP, percpu_counters, name, count, 0)                     \
                                                                                                    \
	MAPRING__FN __u64 mapring_counter_read(struct mapring_map__##name *map, __u32 cpu,          \
					       __u64 index)                                         \
	{                                                                                           \
		__u32 bank = MAPRING__FIRST(sizeof(struct mapring_percpu_counters__##name));        \
		__u64 *words = 0;                                                                   \
                                                                                                    \
		asm volatile("" : "+r"(index)); /* as in mapring__add */                            \
		if (index < (count))                                                                \
			words = mapring__word_of(map, bank, cpu);                                   \
		return words ? mapring__load(words + index) : 0;                                    \
	}

/* A CPU's copy of the element `index`, as words. NULL if it does not exist. */
static __always_inline __u64 *mapring__word_of(void *map, __u32 index, __u32 cpu)
{
	__u32 key[2]; /* as in mapring__word */

	key[0] = index;
	return bpf_map_lookup_percpu_elem(map, key, cpu);
}

#endif

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Cells: each holds the latest value, guarded by a sequence (a seqlock whose writers never wait).
 * A map has one cell or a table of cells. All CPUs share each cell.
 *
 *	struct load { __u64 ns, tasks; };
 *	MAPRING_CELLS(loads, struct load, 128);			// a table of 128
 *
 *	struct load *l = mapring_cell_begin(&loads, cpu);	// NULL: counted as dropped
 *	if (l) {
 *		l->tasks++;					// it holds the latest value: update it
 *		mapring_cell_end(l);
 *	}
 *	mapring_cell_set(&loads, cpu, &value);			// writes the whole value; 0 or -1
 *	mapring_cell_begin_single_writer(&loads, cpu);			// like begin, for a cell's only writer: see below
 *
 * A writer that finds another writer in the cell drops its own update, and counts it. It never waits, and
 * executes at most two locked instructions. Every begin needs an end. Without it no program can write the cell again,
 * and its readers get `Busy`.
 *
 * `mapring_cell_begin_single_writer` is only for a cell that never has another writer: no other program, no other CPU, and
 * not the same program interrupting itself. On x86 it uses no locked instruction, so such programs also load on
 * Linux before 5.12.
 */
#ifndef MAPRING_CELL_BPF_H
#define MAPRING_CELL_BPF_H

#include <mapring/detail/atomic.bpf.h>

#undef MAPRING_CELL
#define MAPRING_CELL(name, value_type) MAPRING_CELLS(name, value_type, 1)

#undef MAPRING_CELLS
#define MAPRING_CELLS(name, value_type, count) MAPRING__CELLS(MAPRING__MAP, cell, name, value_type, count)

/* Cells in a map that `make_map` declares. */
#define MAPRING__CELLS(make_map, kind, name, value_type, count)                                    \
	struct mapring_##kind##__##name {                                                          \
		__u64 seq;                                                                         \
		value_type record;                                                                 \
		MAPRING__TAG(count);                                                               \
	};                                                                                         \
	_Static_assert((count) > 0, "mapring: a table needs a cell");                              \
	MAPRING__COUNT_CHECK(name, count, "cells")                                                 \
	MAPRING__TYPE_CHECKS(value_type, "values")                                                 \
	make_map(kind, name, MAPRING__FIRST(sizeof(struct mapring_##kind##__##name)) + (count));   \
                                                                                                   \
	MAPRING__FN value_type *mapring_cell_begin(struct mapring_map__##name *map, __u32 index)   \
	{                                                                                          \
		return mapring__cell_begin(map, sizeof(struct mapring_##kind##__##name), index, 0); \
	}                                                                                          \
	MAPRING__FN value_type *mapring_cell_begin_single_writer(struct mapring_map__##name *map,          \
							 __u32 index)                              \
	{                                                                                          \
		return mapring__cell_begin(map, sizeof(struct mapring_##kind##__##name), index, 1); \
	}                                                                                          \
	MAPRING__COPIES(value_type, "begin the cell and fill it in place")                         \
	MAPRING__FN long mapring_cell_set(struct mapring_map__##name *map, __u32 index,            \
					  const value_type *value)                                 \
	{                                                                                          \
		value_type *record = mapring_cell_begin(map, index);                               \
                                                                                                   \
		if (!record)                                                                       \
			return -1;                                                                 \
		__builtin_memcpy(record, value, sizeof(*record));                                  \
		mapring_cell_end(record);                                                          \
		return 0;                                                                          \
	}

/* `seq` is odd while the value is being written. The end of the write makes it even again, one higher. */
static __always_inline void *mapring__claim_cell(__u64 *seq)
{
	__u64 seen = mapring__load(seq);

	MAPRING__IN_CLAIM;
	return !(seen & 1) && mapring__cmpxchg(seq, seen, seen + 1) == seen ? seq + 1 : 0;
}

/* The same by plain stores, for a cell's only writer. */
static __always_inline void *mapring__claim_cell_alone(__u64 *seq)
{
	__u64 seen = mapring__load(seq);

	if (seen & 1)
		return 0;
	mapring__store(seq, seen + 1);
	mapring__barrier(); /* SYNC claim: pairs with the second acquire fence of every reader */
	return seq + 1;
}

static __always_inline void *mapring__cell_begin(void *map, __u32 size, __u32 index, int alone)
{
	__u32 first = MAPRING__FIRST((unsigned long)size);
	/* A sum that wraps must not select an element of the preamble. */
	__u64 *seq = index + first < first ? 0 : mapring__word(map, first + index);

	void *record = !seq ? 0 : alone ? mapring__claim_cell_alone(seq) : mapring__claim_cell(seq);

	if (!record)
		mapring__count_out_of_range(map, size);
	return record;
}

/* Publishes the whole value: from now on readers see it. */
static __always_inline void mapring_cell_end(void *record)
{
	__u64 *seq = (__u64 *)record - 1;

	mapring__publish(seq, mapring__load(seq) + 1);
}

#endif

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Cells and latches that are global variables, for values of more than 8 bytes in .bss. (Smaller values do not
 * need this: they are plain global variables, read and written whole.)
 *
 *	struct load { __u64 ns, tasks; };
 *	MAPRING_GLOBAL_CELL(load, struct load);			// programs write, userspace reads
 *	MAPRING_GLOBAL_LATCH(limits, struct limits);		// one writer at a time, programs read
 *
 *	struct load *l = mapring_cell_begin(&load);		// NULL: counted in load.dropped
 *	if (l) {
 *		l->tasks++;
 *		mapring_cell_end(l);
 *	}
 *	mapring_cell_set(&load, &value);			// writes the whole value; 0 or -1
 *
 *	struct limits now;
 *	if (mapring_latch_read(&limits, &now) == 0)		// -1: its writer never pauses
 *		...
 */
#ifndef MAPRING_GLOBAL_BPF_H
#define MAPRING_GLOBAL_BPF_H

#include <mapring/cell.bpf.h>
#include <mapring/latch.bpf.h>

/* No initialiser: clang 14 fills the padding of `= {}` with undefined bytes. The variable is then in .bss, but BTF
 * says .data, and libbpf refuses the object. */
#undef MAPRING_GLOBAL_CELL
#define MAPRING_GLOBAL_CELL(name, value_type)                                                  \
	struct mapring_global_cell__##name {                                                   \
		__u64 seq;                                                                     \
		value_type record;                                                             \
		__u64 dropped; /* updates that were given up */                                \
	} name __weak;                                                                         \
	MAPRING__TYPE_CHECKS(value_type, "values")                                             \
                                                                                               \
	MAPRING__FN value_type *mapring_cell_begin(struct mapring_global_cell__##name *cell)   \
	{                                                                                      \
		value_type *record = mapring__claim_cell(&cell->seq);                          \
                                                                                               \
		if (!record)                                                                   \
			mapring__count(&cell->dropped, 1);                                     \
		return record;                                                                 \
	}                                                                                      \
	MAPRING__COPIES(value_type, "begin the cell and fill it in place")                     \
	MAPRING__FN long mapring_cell_set(struct mapring_global_cell__##name *cell,            \
					  const value_type *value)                             \
	{                                                                                      \
		value_type *record = mapring_cell_begin(cell);                                 \
                                                                                               \
		if (!record)                                                                   \
			return -1;                                                             \
		__builtin_memcpy(record, value, sizeof(*record));                              \
		mapring_cell_end(record);                                                      \
		return 0;                                                                      \
	}

#undef MAPRING_GLOBAL_LATCH
#define MAPRING_GLOBAL_LATCH(name, value_type)                                                 \
	struct mapring_global_latch__##name {                                                  \
		__u64 seq;                                                                     \
		value_type record;                                                             \
		value_type other __attribute__((aligned(8)));                                  \
	} name __weak;                                                                         \
	MAPRING__TYPE_CHECKS(value_type, "values")                                             \
                                                                                               \
	MAPRING__COPIES(value_type, "make several latches of it")                              \
	MAPRING__FN long mapring_latch_read(struct mapring_global_latch__##name *latch,        \
					    value_type *out)                                   \
	{                                                                                      \
		return mapring__latch_read(&latch->seq, out, sizeof(*out));                    \
	}                                                                                      \
	/* For its only writer: see latch.bpf.h. */                                            \
	MAPRING__COPIES(value_type, "make several latches of it")                              \
	MAPRING__FN void mapring_latch_set(struct mapring_global_latch__##name *latch,         \
					   const value_type *value)                            \
	{                                                                                      \
		mapring__latch_set(&latch->seq, value, sizeof(*value));                        \
	}

#endif

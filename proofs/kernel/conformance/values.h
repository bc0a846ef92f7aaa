/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Readers of cells, latches and counters: in maps, in memfds, per CPU, and as global variables. */
#ifndef VALUES_H
#define VALUES_H

#include "region.h"

/* The position of a cell or latch: its first word, relative to the start of an element, in one of its copies. */
struct spot {
	uint64_t element, at;
	int copy;
	uint64_t bytes; /* of the value */
};

/* FAILED: a lookup failed, and the region contains the errno. */
enum look { WHOLE, BUSY, FAILED };

/* Reads once. With WHOLE, `value` has the value's words and `*version` the number of writes. */
enum look read_cell(struct region *region, const struct spot *spot, uint64_t *value, uint64_t *version);
enum look read_latch(struct region *region, const struct spot *spot, uint64_t *value, uint64_t *version);

/* Reads the counter `index` of the bank in an element, in one of its copies. */
enum look read_counter(struct region *region, uint64_t bank, int copy, uint64_t index, uint64_t *value);

/* Finds a variable made by MAPRING_GLOBAL_CELL or MAPRING_GLOBAL_LATCH. Returns NULL, or the reason of a failure. */
const char *find_global(const struct btf *btf, uint32_t section, const char *name, struct spot *spot, bool *is_cell);
/* Whether such a variable is within the section. */
bool global_fits(const struct region *region, const struct spot *spot, bool is_cell);

#endif

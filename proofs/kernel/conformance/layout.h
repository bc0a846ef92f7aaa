/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The positions of all data in a region: docs/abi.md, "Sizes" and "Preamble". Accesses no memory. */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

enum kind {
	RING = 1,
	CELLS,
	COUNTERS,
	LATCHES,
	PERCPU_CELLS,
	PERCPU_COUNTERS,
	HISTOGRAMS,
	GAUGES,
	READERS,
	COMMANDS,
	TOP_KEYS
};

enum { PREAMBLE_WORDS = 16 };

struct layout {
	/* The region's own description. */
	uint64_t kind, record, capacity, shards;
	bool resizable, one_cpu;
	/* The values computed from it: bytes of an element, and numbers of elements. */
	uint64_t size, per_lines, first, header, elements;
};

/* Computes these. Returns false if the description exceeds a limit, or contradicts itself. */
bool layout_complete(struct layout *layout);

/* Reads a preamble. Returns NULL, or the reason why it is refused. */
const char *layout_of_preamble(struct layout *layout, const uint64_t words[PREAMBLE_WORDS]);

/* Whether each possible CPU has its own copy of the region. */
bool layout_is_per_cpu(const struct layout *layout);

/* The first elements of a ring's shard and of its slots; a bank of counters is an element. */
uint64_t layout_header(const struct layout *layout, uint64_t shard);
uint64_t layout_slots(const struct layout *layout, uint64_t shard);

/* The first word of a preamble. */
uint64_t layout_magic(void);

#endif

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

/* The options of a ring. */
enum { WAKEABLE = 1, KEEPS_OLDEST = 2, TAILS = 4, PER_CPU_MAPS = 8, RESIZABLE = 16, OPTIONS = 32 };

struct layout {
	/* The region's own description. */
	uint64_t kind, record, capacity, shards;
	uint64_t options;
	uint64_t longest, area; /* of tails: bytes of the longest one, and of the area that they are in */
	/* The values computed from it: bytes of an element and of a slot, and numbers of elements. */
	uint64_t size, slot, per_lines, first, header, elements;
};

/* Computes these. Returns false if the description exceeds a limit, or contradicts itself. */
bool layout_complete(struct layout *layout);

/* Reads word 2 of a preamble. Returns false if it is refused. */
bool layout_read_kind(struct layout *layout, uint64_t word);

/* Reads a preamble. Returns NULL, or the reason why it is refused. */
const char *layout_of_preamble(struct layout *layout, const uint64_t words[PREAMBLE_WORDS]);

/* Whether each possible CPU has its own copy of the region. */
bool layout_is_per_cpu(const struct layout *layout);
/* Whether it can have several shards. */
bool layout_is_sharded(const struct layout *layout);

/* Words from the start of a ring to a shard's header, its slots, its header for tails, and its area for tails. */
uint64_t layout_header(const struct layout *layout, uint64_t shard);
uint64_t layout_slots(const struct layout *layout, uint64_t shard);
uint64_t layout_tails(const struct layout *layout, uint64_t shard);
uint64_t layout_area(const struct layout *layout, uint64_t shard);

/* The first element of a shard, of a region that has banks, buckets or places of readers. */
uint64_t layout_bank(const struct layout *layout, uint64_t shard);

/* The first word of a preamble. */
uint64_t layout_magic(void);

#endif

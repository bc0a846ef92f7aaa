/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Where things are in a region: docs/abi.md, "Sizes" and "Preamble". No memory is touched here. */
#ifndef LAYOUT_H
#define LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

enum kind { RING = 1, CELLS, COUNTERS, LATCHES, PERCPU_CELLS, PERCPU_COUNTERS };

enum { PREAMBLE_WORDS = 16 };

struct layout {
	/* What a region says of itself. */
	uint64_t kind, record, capacity, shards;
	bool resizable, one_cpu;
	/* What follows from that: bytes of an element, and numbers of elements. */
	uint64_t size, per_lines, first, header, elements;
};

/* Computes what follows. False if what the region says is beyond a limit, or contradicts itself. */
bool layout_complete(struct layout *layout);

/* What a preamble says; NULL, or why it is refused. */
const char *layout_of_preamble(struct layout *layout, const uint64_t words[PREAMBLE_WORDS]);

/* Whether each possible CPU has the whole region. */
bool layout_is_per_cpu(const struct layout *layout);

/* The elements with which a ring's shard and its slots start; a bank of counters is an element. */
uint64_t layout_header(const struct layout *layout, uint64_t shard);
uint64_t layout_slots(const struct layout *layout, uint64_t shard);

/* The first word of a preamble. */
uint64_t layout_magic(void);

#endif

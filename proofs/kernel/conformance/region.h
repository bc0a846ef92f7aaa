/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An open region: mapped, or read by system call (docs/abi.md, "Opening" and "By system call"). */
#ifndef REGION_H
#define REGION_H

#include "btf.h"
#include "layout.h"
#include "words.h"

enum { CPUS = 4096 };

/* The place of a region, now and after another one replaced it. */
struct place {
	enum { PIN, MAP_ID, MAP_OF_MAPS, MEMFD } by;
	const char *path; /* of a pin, or of a memfd in /proc */
	uint32_t id;      /* of a map, or of a map of maps */
	uint32_t key;     /* in a map of maps */
	bool by_lookup;   /* open it for reading only, so that the kernel refuses the mapping */
};

struct region {
	struct layout layout;
	int fd;
	uint32_t map_id; /* 0: a memfd */
	word *words;     /* NULL: by system call */
	size_t mapped;   /* bytes */
	uint64_t size;   /* of an element as lookups return it, in words */
	/* The CPUs whose copies each lookup returns, in this order. For an ordinary map: one. */
	unsigned cpus[CPUS];
	int copies;
	uint64_t *looks[3]; /* at one element, with all its copies */
	/* The errno of the last failed lookup, else 0. A failed lookup returns 0. */
	int failed;
};

/* Opens it. Returns NULL, or the reason of a failure; `errno` adds detail if it is not 0. */
const char *region_open(struct region *region, const struct place *place);
/* The same for a section of global variables, which has no preamble and one element. */
const char *region_open_section(struct region *region, const struct place *place, struct btf *btf, uint32_t *type);
void region_close(struct region *region);

/* The id of the current map there; 0 if none. */
uint32_t place_map_id(const struct place *place);

/* The current value of word `at`, counted from an element, in the first copy. */
uint64_t region_word(struct region *region, uint64_t element, uint64_t at);
/* The same with an acquire. */
uint64_t region_word_acquire(struct region *region, uint64_t element, uint64_t at);
/* Sums word `at` from the region's start over all copies; used for word 12 of the preamble. */
uint64_t region_sum(struct region *region, uint64_t at);

/* Looks up an element three times, for a region that is not mapped. Returns false if a lookup failed. */
bool region_look(struct region *region, uint64_t element);
/* The median of the three lookups of a word of a copy. */
uint64_t region_median(const struct region *region, int copy, uint64_t at);

#endif

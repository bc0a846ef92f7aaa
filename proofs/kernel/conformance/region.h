/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* An open region: mapped, or read by system call (docs/abi-reading.md, "Opening" and "By system call"). */
#ifndef REGION_H
#define REGION_H

#include "btf.h"
#include "layout.h"
#include "words.h"

enum { CPUS = 4096 };

/* Where a region is found, now and when another one is in its place. */
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
	uint64_t size;   /* of an element, as lookups give it, in words */
	/* The CPUs whose copies come with each lookup, in this order. Of an ordinary map: one. */
	unsigned cpus[CPUS];
	int copies;
	uint64_t *looks[3]; /* at one element, and all of its copies */
	/* The errno of the last lookup that failed, else 0. What a failed lookup gives is 0. */
	int failed;
};

/* Opens it: NULL, or why not. `errno` says more, if it is not 0. */
const char *region_open(struct region *region, const struct place *place);
/* The same of a section of global variables, which has no preamble and one element. */
const char *region_open_section(struct region *region, const struct place *place, struct btf *btf, uint32_t *type);
void region_close(struct region *region);

/* The id of the map that is there now; 0 if there is none. */
uint32_t place_map_id(const struct place *place);

/* The present value of word `at` of what starts with an element, in the first copy. */
uint64_t region_word(struct region *region, uint64_t element, uint64_t at);
/* The same as an acquire. */
uint64_t region_word_acquire(struct region *region, uint64_t element, uint64_t at);
/* Word `at` from the region's start, all copies together: of word 12 of the preamble. */
uint64_t region_sum(struct region *region, uint64_t at);

/* Looks three times at an element, for a region that is not mapped. False if a lookup failed. */
bool region_look(struct region *region, uint64_t element);
/* Of the three looks at a word of a copy, the median. */
uint64_t region_median(const struct region *region, int copy, uint64_t at);

#endif

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "follow.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "kernel.h"

#define COUNTING (1ULL << 63) /* in word 15 of the preamble */
enum { PREAMBLE_BEFORE = 15 };

const char *follower_open(struct follower *f, const struct place *place, enum start start, uint64_t patience)
{
	struct region region;
	const char *why = region_open(&region, place);

	*f = (struct follower){ .place = *place, .rings = 1 };
	return why ? why : reader_open(&f->reader, &region, start, patience);
}

const char *follower_go_on(struct follower *f)
{
	struct reader *old = &f->reader, next;
	uint64_t shards = old->region.layout.shards, before, up_to;
	struct region region;
	const char *why;
	bool finished = true;
	uint32_t id;

	f->again = false;
	if (!reader_is_retired(old))
		return NULL;
	for (uint64_t i = 0; i < shards; i++)
		finished = reader_is_finished(old, i) && finished;
	id = finished ? place_map_id(&f->place) : 0;
	if (id == 0 || id == old->region.map_id)
		return NULL;
	why = region_open(&region, &f->place);
	if (why)
		return errno == ENOENT ? NULL : why;
	if (region.layout.kind != RING || region.layout.record != old->region.layout.record) {
		region_close(&region);
		return "the next ring has other records";
	}
	before = region_word(&region, 0, PREAMBLE_BEFORE);
	if (region.failed || before & COUNTING) { /* a resize is unfinished */
		region_close(&region);
		return NULL;
	}
	old->region.failed = 0;
	up_to = reader_tickets(old);
	why = old->region.failed ? NULL : reader_open(&next, &region, START_FIRST, old->patience);
	if (old->region.failed) {
		region_close(&region);
		return NULL;
	}
	if (why)
		return why;

	tally_add_all(&f->past, old);
	if (before > up_to)
		f->past.lapped += before - up_to; /* rings replaced before they were read */
	f->dropped_past += reader_dropped(old);
	reader_close(old);
	*old = next;
	f->rings++;
	f->again = true;
	return NULL;
}

static bool is_alike(const struct region *region, const struct region *first)
{
	return (region->layout.options & PER_CPU_MAPS) && region->layout.record == first->layout.record &&
	       region->layout.capacity == first->layout.capacity;
}

int numa_open(struct cpu_reader **readers, const struct place *place, enum start start, uint64_t patience,
	      const char **why)
{
	static unsigned cpus[CPUS];
	int possible = possible_cpus(cpus, CPUS), count = 0;

	*readers = possible > 0 ? calloc((size_t)possible, sizeof(**readers)) : NULL;
	*why = *readers ? NULL : "no list of the possible CPUs";
	for (int i = 0; i < possible && !*why; i++) {
		struct cpu_reader *one = &(*readers)[count];
		struct place here = *place;
		struct region region;
		char path[4096];

		here.key = cpus[i];
		if (place->by == PIN) {
			snprintf(path, sizeof(path), "%s/cpu%u", place->path, cpus[i]);
			here.path = path;
		}
		*why = region_open(&region, &here);
		if (*why && errno == ENOENT && place->by == MAP_OF_MAPS) {
			*why = NULL; /* this CPU has no ring yet */
			continue;
		}
		if (*why)
			break;
		if (!is_alike(&region, count ? &(*readers)[0].reader.region : &region))
			*why = "not a PER_CPU_MAPS ring, or one of different rings";
		for (int other = 0; other < count; other++)
			if ((*readers)[other].reader.region.map_id == region.map_id)
				*why = "two CPUs with one ring";
		if (*why) {
			errno = 0;
			region_close(&region);
			break;
		}
		one->cpu = cpus[i];
		*why = reader_open(&one->reader, &region, start, patience);
		count += !*why;
	}
	return *why ? -1 : count;
}

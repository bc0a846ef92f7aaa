/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Rings of several maps: those that are replaced by others, and those with a map for each CPU. */
#ifndef FOLLOW_H
#define FOLLOW_H

#include "ring.h"

/* A reader that goes on with the ring that takes the place of its own. */
struct follower {
	struct place place;
	struct reader reader;
	struct tally past;      /* of the rings before this one, and those that were missed */
	uint64_t dropped_past;  /* in the rings that were read */
	uint64_t rings;
	bool again; /* the last ring was opened: steps may find something */
};

const char *follower_open(struct follower *follower, const struct place *place, enum start start, uint64_t patience);

/* After a pass that found nothing: goes on with the next ring, if this one was replaced and read to its end.
 * NULL, or why the next one is refused. */
const char *follower_go_on(struct follower *follower);

/* The readers of a NUMA ring: one for each possible CPU that has a ring, from one map of maps, or from the pins
 * cpu0, cpu1, ... in a directory. Returns how many there are, or -1 with the reason in `*why`. */
struct cpu_reader {
	unsigned cpu;
	struct reader reader;
};
int numa_open(struct cpu_reader **readers, const struct place *place, enum start start, uint64_t patience,
	      const char **why);

#endif

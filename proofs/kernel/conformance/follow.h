/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Rings of several maps: rings that are replaced, and rings with one map per CPU. */
#ifndef FOLLOW_H
#define FOLLOW_H

#include "ring.h"

/* A reader that continues with the ring that replaces its own. */
struct follower {
	struct place place;
	struct reader reader;
	struct tally past;      /* of the rings before this one, and of missed rings */
	uint64_t dropped_past;  /* in the rings that were read */
	uint64_t rings;
	bool again; /* the last ring was opened: steps may find records */
};

const char *follower_open(struct follower *follower, const struct place *place, enum start start, uint64_t patience);

/* After a pass without records: continues with the next ring, if this one was replaced and read to its end. Returns
 * NULL, or the reason why the next one is refused. */
const char *follower_go_on(struct follower *follower);

/* The readers of a PER_CPU_MAPS ring: one for each possible CPU that has a ring, from one map of maps, or from the pins cpu0,
 * cpu1, ... in a directory. Returns their number, or -1 with the reason in `*why`. */
struct cpu_reader {
	unsigned cpu;
	struct reader reader;
};
int numa_open(struct cpu_reader **readers, const struct place *place, enum start start, uint64_t patience,
	      const char **why);

#endif

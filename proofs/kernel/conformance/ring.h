/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A reader of a ring, mapped or by system call: docs/abi.md, "Reading a ring", "Resizable rings" and "Rings with tails". */
#ifndef RING_H
#define RING_H

#include "region.h"

/* The counts of the passed tickets; `torn` counts copies and not tickets. */
struct tally {
	uint64_t delivered, lapped, skipped, tail_lost, discarded, stepped_over, torn;
};

void tally_add(struct tally *sum, const struct tally *more);

/* A reader's position in a shard. */
struct cursor {
	uint64_t header, slots; /* words from the region's start */
	uint64_t next, waits;
	struct tally tally;
};

struct reader {
	struct region region;
	struct cursor *cursors; /* one for each shard */
	uint64_t patience;
	unsigned bits; /* log2 of the slots */
};

enum start { START_OLDEST, START_FIRST };
enum step { EMPTY, MOVED, RECORD };

/* Starts to read an open region, and takes ownership of it. Returns NULL, or the reason of a failure. */
const char *reader_open(struct reader *reader, struct region *region, enum start start, uint64_t patience);
void reader_close(struct reader *reader);

/* The words of a record, and of the longest tail, which is behind it. */
uint64_t reader_room(const struct reader *reader);

/* One step in a shard. `record` has this room; with RECORD it contains the record of `*ticket`. */
enum step reader_step(struct reader *reader, uint64_t shard, uint64_t *record, uint64_t *ticket);

/* Adds the counts of all shards. */
void tally_add_all(struct tally *sum, const struct reader *reader);

/* Whether a resizable ring was replaced. */
bool reader_is_retired(struct reader *reader);
/* For a retired ring, after a step without a record: whether the shard was read to its end. */
bool reader_is_finished(struct reader *reader, uint64_t shard);
/* The number of tickets in all rings up to and including this retired one. */
uint64_t reader_tickets(struct reader *reader);

/* Records that writers dropped. */
uint64_t reader_dropped(struct reader *reader);

/* When the latest spell of drops in a shard began, and when its last drop was: both 0 if there was none. */
void reader_drop_times(struct reader *reader, uint64_t shard, uint64_t times[2]);

#endif

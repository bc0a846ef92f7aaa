/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The numbers, names and errors of the layout. Written by ring/core/tests/numbers: do not edit. */
#ifndef MAPRING_C_NUMBERS_H
#define MAPRING_C_NUMBERS_H

/* The version of the layout that this header reads. */
#define MAPRING_ABI_VERSION 3

enum mapring_kind {
	MAPRING_KIND_RING = 1,
	MAPRING_KIND_CELLS = 2,
	MAPRING_KIND_COUNTERS = 3,
	MAPRING_KIND_LATCHES = 4,
	MAPRING_KIND_PERCPU_CELLS = 5,
	MAPRING_KIND_PERCPU_COUNTERS = 6,
	MAPRING_KIND_HISTOGRAMS = 7,
	MAPRING_KIND_GAUGES = 8,
	MAPRING_KIND_READERS = 9,
	MAPRING_KIND_COMMANDS = 10,
	MAPRING_KIND_TOP_KEYS = 11,
};

/* The options of a ring. */
enum {
	MAPRING_OPTION_WAKEABLE = 1,
	MAPRING_OPTION_KEEP_OLDEST = 2,
	MAPRING_OPTION_TAILS = 4,
	MAPRING_OPTION_PER_CPU_MAPS = 8,
	MAPRING_OPTION_RESIZABLE = 16,
	MAPRING__OPTIONS = 32,
};

/* Words of the preamble. */
#define MAPRING__KIND 2 /* the kind, in bits 0 to 7; the options and tails of a ring above */
#define MAPRING__RECORD 3 /* bytes of a record or value */
#define MAPRING__CAPACITY 4 /* slots of a shard, or values */
#define MAPRING__SHARDS 5 /* the number of shards */
#define MAPRING__SIZE 6 /* bytes of an element */
#define MAPRING__GENERATION 7 /* when the region was made */
#define MAPRING__NAME 8 /* the name of the record type */
#define MAPRING__LOADER 11 /* the process that made it */
#define MAPRING__DROPPED 12 /* counts writes that went nowhere */
#define MAPRING__LINK 13 /* the maps of a wakeable ring */
#define MAPRING__GATE 14 /* the gate for readers of a resizable ring */
#define MAPRING__BEFORE 15 /* the tickets of all rings before this one */

/* Words of the header of a shard. */
#define MAPRING__HEAD 0 /* a hint of the next ticket */
#define MAPRING__NO_SLOT 1 /* counts records for which no slot was free */
#define MAPRING__END 2 /* the tickets of a retired ring */
#define MAPRING__PROGRAM_GATE 3 /* the gate for programs of a resizable ring */
#define MAPRING__FULL 5 /* counts records that were dropped because of a required reader */
#define MAPRING__DROPS_SINCE 6 /* when the latest spell of drops began */
#define MAPRING__DROPS_UNTIL 7 /* when the last record was dropped */

/* Words of the header for tails. */
#define MAPRING__TAIL_HIGH 1 /* no byte at or beyond this position was ever written */
#define MAPRING__TAIL_NO_SPACE 3 /* counts records without space for a tail */
#define MAPRING__TAIL_TOO_LONG 4 /* counts tails that were longer than the longest */

/* Words of the map of readers. */
#define MAPRING__OTHER_RING 15 /* the id of another ring's map */
#define MAPRING__ASLEEP 16 /* a bit for each reader that sleeps */
#define MAPRING__REQUIRED 17 /* a bit for each reader that is required */
#define MAPRING__LOOK 18 /* the bits of a ticket at which programs look for readers that sleep */
#define MAPRING__IDLE_SINCE 19 /* since when no reader has said that it sleeps */

/* Elements of the map of readers. */
#define MAPRING__OWNERS 1 /* the process in each seat */
#define MAPRING__LEASES 2 /* each reader's lease */
#define MAPRING__WANTS 3 /* 1 + the bits of LOOK that each reader wants */
#define MAPRING__OF_SHARD 3 /* the number for each shard */

/* Readers. */
#define MAPRING__SEATS 64 /* readers that can have a seat, and words of an element */
#define MAPRING__NEVER 0xffffffffULL /* the bits of LOOK while programs look for no reader */
#define MAPRING__FOR_GOOD (1ULL << 62) /* a ticket that no shard reaches */
#define MAPRING__SILENT 600000000000ULL /* after so many nanoseconds without a sleep an unseen reader counts as dead */

/* Words of the header of commands. */
#define MAPRING__PUSHED 0 /* the commands that were pushed */
#define MAPRING__APPLIED 1 /* the commands that were carried out or skipped */
#define MAPRING__SKIPPED 3 /* counts words that no owner writes */
#define MAPRING__OWNER 4 /* the process that pushes */

/* Sequences and heads. */
#define MAPRING__DISCARDED (1ULL << 63) /* in `seq`: the ticket ended without a record */
#define MAPRING__PENDING (1ULL << 63) /* in `head`: a guarded claim is under way */
#define MAPRING__TRIES 6 /* slots that a claim tries */
#define MAPRING__WALK 2 /* slots that a claim tries before it bisects */

/* States of a gate, and bits of its words. */
#define MAPRING__GATE_OPEN 1 /* the ring is in use */
#define MAPRING__GATE_CLOSING 2 /* another ring is in use, or will be soon */
#define MAPRING__GATE_RETIRED 3 /* readers go on with the next ring */
#define MAPRING__GATE_LEAVING (1 << 16) /* another ring is replacing this one */
#define MAPRING__COUNTING (1ULL << 63) /* in BEFORE, until the tickets are counted */

/* Sizes. */
#define MAPRING__LINE 64UL /* bytes of a cache line: the preamble and each shard start on one */
#define MAPRING__PREAMBLE_WORDS 16 /* words of the preamble */
#define MAPRING__HISTOGRAM_WORDS 512UL /* words from one histogram to the next */
#define MAPRING__HISTOGRAM_BYTES 4096 /* bytes of a histogram */
#define MAPRING_BUCKETS 496 /* buckets of a histogram */
#define MAPRING__GAUGE_WORDS 2048UL /* words from one gauge to the next */
#define MAPRING__GAUGE_BYTES 16384 /* bytes of a gauge */
#define MAPRING_WINDOWS 1024UL /* windows of a gauge */
#define MAPRING__GAUGE_MAX 0xfffffffffULL /* the largest value of a gauge */
#define MAPRING_KEYS 10 /* keys of a bucket */
#define MAPRING__BUCKET_BYTES 248 /* bytes of a bucket of top keys after its sequence */
#define MAPRING__TAIL_PREFIX 16 /* bytes of the position and the length of a tail, before the record */
#define MAPRING__TAIL_SHARD 128 /* a shard with tails: bytes to its header */
#define MAPRING__TAIL_HEADER 192 /* to its header for tails */
#define MAPRING__TAIL_FIRST_SLOT 448 /* to its slots */

/* Limits. */
#define MAPRING__RECORD_MAX 536870904ULL /* bytes of a record */
#define MAPRING__SHARDS_MAX (1 << 16) /* shards */
#define MAPRING__ELEMENTS_MAX 0xffffffffULL /* elements */
#define MAPRING__ELEMENT_MAX (1ULL << 29) /* bytes of a shard with tails */
#define MAPRING__AREA_MIN 128ULL /* bytes of the smallest area for tails */
#define MAPRING__AREA_MAX (1ULL << 28) /* bytes of the largest area for tails */

/* The names of the kinds, by their numbers. */
#define MAPRING__KIND_NAMES "nothing", "ring", "cells", "counters", "latches", "cells for each CPU", "counters for each CPU", "histograms", "gauges", "readers", "commands", "top keys"
/* The names of the options, by their bits. */
#define MAPRING__OPTION_NAMES "WAKEABLE", "KEEP_OLDEST", "TAILS", "PER_CPU_MAPS", "RESIZABLE"

/* Why a region is refused. */
#define MAPRING__NOT_MAGIC "no preamble: the first word is 0x%016llx, expected 0x%016llx (\"mapring\")"
#define MAPRING__NOT_VERSION "layout version %llu, this library knows 3: build program, loader and reader with one version of mapring"
#define MAPRING__NOT_VERSION_OLDER ", and replace what an older one has pinned"
#define MAPRING__NOT_KIND "a region of unknown kind %llu, this library knows 1 (ring), 2 (cells), 3 (counters), 4 (latches), 5 (cells for each CPU), 6 (counters for each CPU), 7 (histograms), 8 (gauges), 9 (readers), 10 (commands) and 11 (top keys)"
#define MAPRING__NOT_OPTIONS "a ring with unknown options 0x%llx"
#define MAPRING__NOT_GATE "a gate of state %llu: a resizable ring has 1 (open) or 3 (retired), any other region 0"
#define MAPRING__NOT_SLOTS "a ring needs a power of two of slots, and top keys of buckets (1, 2, 4, …), not %llu"
#define MAPRING__NOT_EMPTY "%s with %llu entries in %llu shards: both must be at least 1"
#define MAPRING__NOT_RECORD "records of %llu bytes: a record has 1 to 536870904 bytes"
#define MAPRING__NOT_READERS "readers with %llu seats, this library knows 64"
#define MAPRING__NOT_COUNTER "counters of %llu bytes: a counter has 8 bytes"
#define MAPRING__NOT_HISTOGRAM "histograms of %llu bytes: a histogram has 4096 bytes"
#define MAPRING__NOT_GAUGE "gauges of %llu bytes: a gauge has 16384 bytes"
#define MAPRING__NOT_BUCKET "buckets of %llu bytes: a bucket of top keys has 248 bytes"
#define MAPRING__NOT_ENTRIES "%llu elements: a map has at most 4294967295"
#define MAPRING__NOT_SHARDS "%llu shards: a region has at most 65536"
#define MAPRING__NOT_ELEMENT "elements of %llu bytes where the records make them %llu"
#define MAPRING__NOT_SHARDED "only rings, counters, histograms, gauges and top keys have shards, and not in per-CPU maps: 1 shard, not %llu"
#define MAPRING__NOT_OPTIONS_OF "%s with the options %s: only rings have options, and a RESIZABLE ring has no others except WAKEABLE"
#define MAPRING__NOT_OF_CPU "%llu shards in the map of one CPU: it has 1"
#define MAPRING__NOT_TAILS "tails of up to %llu bytes in %llu bytes: the area is a power of two from 128 to 2^28, and at least twice the longest tail"
#define MAPRING__NOT_TAILED "records with tails have more than 16 bytes, not %llu"
#define MAPRING__NOT_SHARD "a shard of %llu bytes, with its tails: the kernel takes at most 536870912"

#endif

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Readers of histograms, gauges and top keys: the banks and buckets that each shard has. */
#ifndef TABLES_H
#define TABLES_H

#include "values.h"

enum { HISTOGRAM_BUCKETS = 496, HISTOGRAM_WORDS = 512, GAUGE_WINDOWS = 1024, GAUGE_WORDS = 2048, TOP_WAYS = 10 };

/* Reads `count` words of a shard's bank, each once. Returns false if a lookup failed. */
bool read_bank(struct region *region, uint64_t shard, uint64_t at, uint64_t count, uint64_t *words);

/* The values of a bucket of a histogram. */
uint64_t histogram_first(uint64_t bucket);

struct window {
	uint64_t number, least, most;
};

/* Reads the windows of a gauge of a shard. Returns their number (at most GAUGE_WINDOWS), or -1 if a lookup failed. */
int read_gauge(struct region *region, uint64_t shard, uint64_t index, struct window *windows);

/* A bucket's copy, without its sequence. */
struct top_bucket {
	uint64_t other, keys[TOP_WAYS], counts[TOP_WAYS], errors[TOP_WAYS];
};

enum look read_top(struct region *region, uint64_t shard, uint64_t bucket, struct top_bucket *copy, uint64_t *version);

/* The bucket that counts a key. */
uint64_t top_place(uint64_t key, uint64_t buckets);
/* The bounds of what was added to a key, in its bucket of one shard. With NULL: to any key that is not listed. */
void top_bounds(const struct top_bucket *bucket, const uint64_t *key, uint64_t *least, uint64_t *most);

#endif

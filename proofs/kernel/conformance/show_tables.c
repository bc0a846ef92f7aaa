/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "show.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tables.h"

/* Tries to read a bucket that is being written. */
enum { TRIES = 1 << 20 };

/* Prints the words of each bucket when they change, and counts the times when one was being written. */
static uint64_t print_buckets(struct region *r, struct top_bucket *last)
{
	uint64_t busy = 0, version;
	struct top_bucket now;

	for (uint64_t i = 0; i < r->layout.shards * r->layout.capacity; i++) {
		uint64_t shard = i / r->layout.capacity, bucket = i % r->layout.capacity;
		enum look look = read_top(r, shard, bucket, &now, &version);

		if (look == FAILED)
			fail("a bucket", "a lookup failed");
		if (look == BUSY || memcmp(&now, &last[i], sizeof(now)) == 0) {
			busy += look == BUSY;
			continue;
		}
		last[i] = now;
		printf("value %" PRIu64 " %" PRIu64 " %" PRIu64 " ", shard, bucket, version);
		print_hex((const uint64_t *)&now, sizeof(now));
		putchar('\n');
	}
	return busy;
}

/* Adds the bounds of all shards. */
static void bounds(const struct layout *l, const struct top_bucket *all, uint64_t bucket, const uint64_t *key,
		   uint64_t sum[2])
{
	sum[0] = sum[1] = 0;
	for (uint64_t shard = 0; shard < l->shards; shard++) {
		uint64_t least, most;

		top_bounds(&all[shard * l->capacity + bucket], key, &least, &most);
		sum[0] += least;
		sum[1] += most;
	}
}

/* Prints each key that is in a bucket, with its bounds: once for each of its shards. */
static void print_keys(const struct layout *l, const struct top_bucket *all)
{
	uint64_t sum[2], unlisted = 0;

	for (uint64_t i = 0; i < l->shards * l->capacity; i++)
		for (int way = 0; way < TOP_WAYS; way++)
			if (all[i].counts[way] != 0) {
				bounds(l, all, top_place(all[i].keys[way], l->capacity), &all[i].keys[way], sum);
				printf("key %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", all[i].keys[way], sum[0], sum[1]);
			}
	for (uint64_t bucket = 0; bucket < l->capacity; bucket++) {
		bounds(l, all, bucket, NULL, sum);
		if (sum[1] > unlisted)
			unlisted = sum[1];
	}
	printf("unlisted %" PRIu64 "\n", unlisted);
}

void show_top(const struct options *options)
{
	struct top_bucket *last;
	uint64_t busy = 0, again;
	struct region r;
	bool stopped;

	open_kind(&r, options, TOP_KEYS, TOP_KEYS);
	last = room(r.layout.shards * r.layout.capacity * sizeof(*last) / 8);
	ready(r.words);
	do {
		stopped = is_stopped();
		again = print_buckets(&r, last);
		if (busy == 0 && again != 0) {
			puts("busy 1"); /* for others to see while this program reads */
			fflush(stdout);
		}
		busy += again;
	} while (!stopped || (again && busy < TRIES));
	print_keys(&r.layout, last);
	printf("busy %" PRIu64 "\n", busy);
	region_close(&r);
	free(last);
}

void show_histograms(const struct options *options)
{
	static uint64_t now[HISTOGRAM_BUCKETS];
	uint64_t *last;
	struct region r;
	bool stopped;

	open_kind(&r, options, HISTOGRAMS, HISTOGRAMS);
	last = room(r.layout.shards * r.layout.capacity * HISTOGRAM_BUCKETS);
	ready(r.words);
	do {
		stopped = is_stopped();
		for (uint64_t i = 0; i < r.layout.shards * r.layout.capacity; i++) {
			uint64_t shard = i / r.layout.capacity, index = i % r.layout.capacity;

			if (!read_bank(&r, shard, index * HISTOGRAM_WORDS, HISTOGRAM_BUCKETS, now))
				fail("a histogram", "a lookup failed");
			for (uint64_t b = 0; b < HISTOGRAM_BUCKETS; b++) {
				uint64_t *was = &last[i * HISTOGRAM_BUCKETS + b];

				if (now[b] != *was)
					printf("bucket %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", shard, index,
					       histogram_first(b), now[b]);
				*was = now[b];
			}
		}
	} while (!stopped);
	region_close(&r);
	free(last);
}

void show_gauges(const struct options *options)
{
	static struct window windows[GAUGE_WINDOWS];
	struct region r;

	open_kind(&r, options, GAUGES, GAUGES);
	ready(r.words);
	while (!is_stopped())
		;
	for (uint64_t i = 0; i < r.layout.shards * r.layout.capacity; i++) {
		uint64_t shard = i / r.layout.capacity, index = i % r.layout.capacity;
		int count = read_gauge(&r, shard, index, windows);

		if (count < 0)
			fail("a gauge", "a lookup failed");
		for (int w = 0; w < count; w++)
			printf("window %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", shard, index,
			       windows[w].number, windows[w].least, windows[w].most);
	}
	printf("dropped %" PRIu64 "\n", region_word(&r, 0, 12));
	region_close(&r);
}

enum { PLACES = 64, ASLEEP = 16, REQUIRED = 17, OWNERS = 64, LEASES = 128 };

void show_readers(const struct options *options)
{
	struct region r;

	open_kind(&r, options, READERS, READERS);
	ready(r.words);
	while (!is_stopped())
		;
	for (uint64_t place = 0; place < PLACES; place++) {
		uint64_t owner = region_word(&r, 0, OWNERS + place);
		bool required = region_word(&r, 0, REQUIRED) >> place & 1;

		if (owner == 0)
			continue;
		printf("reader %" PRIu64 " %" PRIu64 " %d %" PRIu64, place, owner & ((1 << 22) - 1), required,
		       region_word(&r, 0, LEASES + place));
		for (uint64_t shard = 0; shard < r.layout.shards; shard++)
			printf(" %" PRIu64, region_word(&r, layout_bank(&r.layout, shard) + 1, place));
		putchar('\n');
	}
	region_close(&r);
}

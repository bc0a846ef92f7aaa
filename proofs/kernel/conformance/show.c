/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Prints regions that are not rings. */
#include "show.h"

#include <inttypes.h>

/* What was printed last of each value, and how often one was being written. */
struct watched {
	uint64_t *last, busy;
	void *value;
};

static void check(int error, const char *what)
{
	if (error < 0)
		fail(what);
}

/* Prints each cell or latch whose version has changed. */
static void print_values(struct mapring_region *r, struct watched *w)
{
	for (uint64_t i = 0; i < r->layout.capacity * (uint64_t)r->copies; i++) {
		uint64_t index = i / (uint64_t)r->copies, version;
		int copy = (int)(i % (uint64_t)r->copies);
		int error = mapring__try_value(r, r->layout.first + index, copy, w->value, &version);

		w->busy += error == -EBUSY;
		if (error == -EBUSY)
			continue;
		check(error, "the value");
		if (version == w->last[i])
			continue;
		w->last[i] = version;
		printf("value %u %" PRIu64 " %" PRIu64 " ", r->cpus ? r->cpus[copy] : 0, index, version);
		print_hex(w->value, r->layout.record);
		putchar('\n');
	}
}

static void print_dropped(struct mapring_region *r)
{
	uint64_t dropped;

	check(mapring_region__dropped(r, &dropped), "the count of drops");
	printf("dropped %" PRIu64 "\n", dropped);
}

static void show_values(struct mapring_region *r)
{
	struct watched w = { .last = room(r->layout.capacity * (uint64_t)r->copies) };
	bool stopped;

	w.value = room(mapring__words_of(r->layout.record));
	ready(r->words);
	do {
		stopped = is_stopped();
		print_values(r, &w);
	} while (!stopped);
	printf("busy %" PRIu64 "\n", w.busy);
	if (r->layout.size || r->layout.kind == MAPRING_KIND_CELLS) /* a global latch counts none */
		print_dropped(r);
	free(w.last);
	free(w.value);
}

static void show_counters(struct mapring_region *r)
{
	uint64_t banks = mapring_region__shards(r), *last = room(banks * r->layout.capacity);
	bool stopped;

	ready(r->words);
	do {
		stopped = is_stopped();
		for (uint64_t at = 0; at < banks * r->layout.capacity; at++) {
			uint64_t bank = at / r->layout.capacity, i = at % r->layout.capacity, value;

			check(mapring_counter__get(r, bank, i, &value), "the counters");
			if (value != last[at])
				printf("counter %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", r->cpus ? r->cpus[bank] : bank, i, value);
			last[at] = value;
		}
	} while (!stopped);
	print_dropped(r);
	free(last);
}

/* Prints the words of each bucket when they change. Returns how many were being written. */
static uint64_t print_buckets(struct mapring_region *r, struct mapring__bucket *last)
{
	struct mapring__bucket now;
	uint64_t busy = 0, version;

	for (uint64_t i = 0; i < r->layout.shards * r->layout.capacity; i++) {
		int error = mapring__try_value(r, r->layout.first + i, 0, &now, &version);

		busy += error == -EBUSY;
		if (error == -EBUSY)
			continue;
		check(error, "a bucket");
		if (memcmp(&now, &last[i], sizeof(now)) == 0)
			continue;
		last[i] = now;
		printf("value %" PRIu64 " %" PRIu64 " %" PRIu64 " ", i / r->layout.capacity, i % r->layout.capacity, version);
		print_hex(&now, sizeof(now));
		putchar('\n');
	}
	return busy;
}

static void show_top(struct mapring_region *r)
{
	uint64_t buckets = r->layout.shards * r->layout.capacity, busy = 0, again, unlisted;
	struct mapring_key *keys = room(buckets * MAPRING_KEYS * sizeof(*keys) / 8);
	struct mapring__bucket *last = room(buckets * sizeof(*last) / 8);
	size_t count;
	bool stopped;

	ready(r->words);
	do {
		stopped = is_stopped();
		again = print_buckets(r, last);
		if (busy == 0 && again != 0) {
			puts("busy 1"); /* for others to see while this program reads */
			fflush(stdout);
		}
		busy += again;
	} while (!stopped || (again && busy < 1 << 20));
	count = mapring__list_keys(&r->layout, last, keys, buckets * MAPRING_KEYS, &unlisted);
	for (size_t i = 0; i < count; i++)
		printf("key %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", keys[i].key, keys[i].least, keys[i].most);
	printf("unlisted %" PRIu64 "\nbusy %" PRIu64 "\n", unlisted, busy);
	free(keys);
	free(last);
}

static void show_histograms(struct mapring_region *r)
{
	uint64_t count = r->layout.shards * r->layout.capacity;
	struct mapring_histogram *last = room(count * MAPRING_BUCKETS), now;
	bool stopped;

	ready(r->words);
	do {
		stopped = is_stopped();
		for (uint64_t i = 0; i < count; i++) {
			uint64_t shard = i / r->layout.capacity, index = i % r->layout.capacity;

			memset(&now, 0, sizeof(now));
			check(mapring_histogram__add(r, shard, index, &now), "a histogram");
			for (uint64_t b = 0; b < MAPRING_BUCKETS; b++)
				if (now.counts[b] != last[i].counts[b])
					printf("bucket %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", shard, index,
					       mapring_histogram__first(b), now.counts[b]);
			last[i] = now;
		}
	} while (!stopped);
	free(last);
}

static void show_gauges(struct mapring_region *r)
{
	static struct mapring_window windows[MAPRING_WINDOWS];

	ready(r->words);
	while (!is_stopped())
		;
	for (uint64_t i = 0; i < r->layout.shards * r->layout.capacity; i++) {
		uint64_t shard = i / r->layout.capacity, index = i % r->layout.capacity;
		int count = mapring_gauge__read(r, shard, index, windows);

		check(count, "a gauge");
		for (int w = 0; w < count; w++)
			printf("window %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", shard, index,
			       windows[w].number, windows[w].least, windows[w].most);
	}
	print_dropped(r);
}

/* The seats of the readers of a ring that wakes them. */
static void show_readers(struct mapring_region *r)
{
	ready(r->words);
	while (!is_stopped())
		;
	for (uint64_t seat = 0; seat < MAPRING__SEATS; seat++) {
		uint64_t owner = mapring__word(r, 0, MAPRING__SEATS * MAPRING__OWNERS + seat);
		bool required = mapring__word(r, 0, MAPRING__REQUIRED) >> seat & 1;

		if (owner == 0)
			continue;
		printf("reader %" PRIu64 " %" PRIu64 " %d %" PRIu64, seat, owner & ((1 << 22) - 1), required,
		       mapring__word(r, 0, MAPRING__SEATS * MAPRING__LEASES + seat));
		for (uint64_t shard = 0; shard < r->layout.shards; shard++)
			printf(" %" PRIu64, mapring__word(r, mapring__bank(&r->layout, shard) + 1, seat));
		putchar('\n');
	}
}

bool show_region(const char *command, const struct mapring__locator *locator)
{
	static const struct {
		const char *name;
		enum mapring_kind kind;
		void (*show)(struct mapring_region *r);
	} KINDS[] = {
		{ "cells", MAPRING_KIND_CELLS, show_values },
		{ "latches", MAPRING_KIND_LATCHES, show_values },
		{ "counters", MAPRING_KIND_COUNTERS, show_counters },
		{ "top", MAPRING_KIND_TOP_KEYS, show_top },
		{ "histograms", MAPRING_KIND_HISTOGRAMS, show_histograms },
		{ "gauges", MAPRING_KIND_GAUGES, show_gauges },
		{ "readers", MAPRING_KIND_READERS, show_readers },
	};

	for (size_t i = 0; i < sizeof(KINDS) / sizeof(KINDS[0]); i++) {
		struct mapring_region *r;

		if (strcmp(command, KINDS[i].name) != 0)
			continue;
		r = mapring__region_new(mapring__locator_open(locator), locator->path, KINDS[i].kind, 0, locator->flags);
		if (!r)
			fail("the region");
		KINDS[i].show(r);
		mapring_region__free(r);
		return true;
	}
	return false;
}

void show_global(const struct mapring__locator *locator, const char *name)
{
	struct bpf_map_info info;
	struct mapring_region r;
	uint64_t offset, bytes;
	bool told;
	char kind[6];

	check(mapring__open_section(&r, mapring__locator_open(locator), locator->flags, &info), "the section");
	told = sscanf(name, "%5[a-z]@%" SCNu64 ":%" SCNu64, kind, &offset, &bytes) == 3;
	if (told)
		check(mapring__place_global(&r, strcmp(kind, "cell") == 0 ? MAPRING_KIND_CELLS : MAPRING_KIND_LATCHES, offset, bytes),
		      "the variable");
	else
		check(mapring__find_global(&r, &info, name), "the variable");
	if (!told)
		printf("%s@%" PRIu64 ":%" PRIu64 "\n", r.layout.kind == MAPRING_KIND_CELLS ? "cell" : "latch", r.at * 8,
		       r.layout.record);
	show_values(&r);
	mapring__region_close(&r);
}

void write_value(const struct mapring__locator *locator, bool is_command, const char *hex)
{
	enum mapring_kind kind = is_command ? MAPRING_KIND_COMMANDS : MAPRING_KIND_LATCHES;
	struct mapring_region *r = mapring__region_new(mapring__locator_open(locator), locator->path, kind, 0, MAPRING_WRITE);
	unsigned char *value;
	uint64_t number = 0, done = 0;

	if (!r)
		fail("the region");
	value = room(mapring__words_of(r->layout.record));
	for (uint64_t i = 0; i < r->layout.record && sscanf(hex + 2 * i, "%2hhx", &value[i]) == 1; i++)
		;
	if (is_command)
		check(mapring_commands__push(r, value, &number), "the commands");
	else
		check(mapring_latch__set(r, 0, value), "the latch");
	ready(true);
	while (is_command && done < number && !is_stopped())
		check(mapring_commands__acknowledged(r, &done), "the commands");
	if (is_command)
		printf("pushed %" PRIu64 " %" PRIu64 "\n", number, done);
	free(value);
	mapring_region__free(r);
}

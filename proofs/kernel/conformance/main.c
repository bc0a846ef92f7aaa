/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads regions of mapring and prints their content, in plain C: written from docs/abi.md and
 * docs/abi-reading.md, with only libc and bpf(2). To build and run:
 *
 *	cc -std=c11 -O2 -o mapring-read *.c			(in this folder)
 *	mapring-read ring /sys/fs/bpf/events < /dev/null
 *
 * words.h    loads and fences		layout.c   the layout		kernel.c   bpf(2)
 * region.c   opening, lookups		btf.c      without a preamble	ring.c     rings
 * follow.c   rings of several maps	values.c   cells, latches, counters, global variables
 */
#define _GNU_SOURCE
#include <errno.h>
#include <grp.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "follow.h"
#include "ring.h"
#include "values.h"

#define USAGE                                                                                          \
	"mapring-read [--nobody] [--lookup] [--patience N] [--first] COMMAND\n"                        \
	"  ring|follow|cells|latches|counters WHERE   a region: a pin, id:N, maps:N (in a map of\n"    \
	"                                             maps, under key 0) or memfd:PATH\n"             \
	"  numa WHERE                                 a directory of pins cpu0, cpu1, ..., or maps:N\n" \
	"  global WHERE NAME                          a global variable; NAME or cell@OFFSET:BYTES or\n" \
	"                                             latch@OFFSET:BYTES\n"                           \
	"  layout                                     sizes, for lines of numbers on stdin\n"          \
	"Reads until stdin ends, and then what is left.\n"

enum { NOBODY = 65534, SLACK = 16 };

static struct {
	uint64_t patience;
	enum start start;
	bool lookup;
} options = { 1 << 14, START_OLDEST, false };

static _Noreturn void fail(const char *what, const char *why)
{
	if (errno)
		fprintf(stderr, "can't open %s: %s: %s\n", what, why, strerror(errno));
	else
		fprintf(stderr, "can't open %s: %s\n", what, why);
	exit(1);
}

static void *room(uint64_t words)
{
	void *room = calloc(words ? words : 1, 8);

	if (!room)
		fail("a buffer", "no memory");
	return room;
}

static void print_hex(const uint64_t *words, uint64_t bytes)
{
	const unsigned char *byte = (const void *)words;

	for (uint64_t i = 0; i < bytes; i++) {
		putchar_unlocked("0123456789abcdef"[byte[i] >> 4]);
		putchar_unlocked("0123456789abcdef"[byte[i] & 15]);
	}
	putchar_unlocked('\n');
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY) ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("a reader without privilege", "setresuid");
}

static struct place place_of(const char *where)
{
	static const struct {
		const char *prefix;
		int by;
	} WAYS[] = { { "id:", MAP_ID }, { "maps:", MAP_OF_MAPS }, { "memfd:", MEMFD } };
	struct place place = { .by = PIN, .path = where, .by_lookup = options.lookup };

	for (size_t i = 0; i < sizeof(WAYS) / sizeof(WAYS[0]); i++) {
		size_t length = strlen(WAYS[i].prefix);

		if (strncmp(where, WAYS[i].prefix, length) == 0) {
			place.by = WAYS[i].by;
			place.path = where + length;
			place.id = (uint32_t)strtoul(where + length, NULL, 10);
		}
	}
	return place;
}

static void ready(bool mapped)
{
	printf("%s\nready\n", mapped ? "mapped" : "lookup");
	fflush(stdout);
}

/* Whether stdin has ended. */
static bool is_stopped(void)
{
	struct pollfd in = { .fd = 0, .events = POLLIN };
	char byte;

	return poll(&in, 1, 0) > 0 && read(0, &byte, 1) <= 0;
}

/* Prints all records of a ring, at most a lap of each shard. Returns whether it found or waits for any. */
static bool print_records(struct reader *r, const unsigned *cpu, uint64_t *record)
{
	bool found = false;

	for (uint64_t shard = 0; shard < r->region.layout.shards; shard++) {
		uint64_t ticket;

		for (uint64_t steps = r->region.layout.capacity + SLACK; steps > 0; steps--) {
			enum step step = reader_step(r, shard, record, &ticket);

			if (step == EMPTY)
				break;
			found = true;
			if (step == RECORD) {
				printf("record %" PRIu64 " %" PRIu64 " ", cpu ? *cpu : shard, ticket);
				print_hex(record, r->region.layout.record);
			}
		}
		if (r->region.failed)
			fail("the ring", "a lookup failed");
		found |= r->cursors[shard].waits > 0;
	}
	return found;
}

static void print_tally(const struct tally *t, uint64_t dropped, uint64_t rings)
{
	printf("tally %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
	       t->delivered, t->lapped, t->skipped, t->discarded, t->torn, dropped, rings);
}

static void add_tallies(struct tally *sum, const struct reader *r)
{
	for (uint64_t i = 0; i < r->region.layout.shards; i++) {
		sum->delivered += r->cursors[i].tally.delivered;
		sum->lapped += r->cursors[i].tally.lapped;
		sum->skipped += r->cursors[i].tally.skipped;
		sum->discarded += r->cursors[i].tally.discarded;
		sum->torn += r->cursors[i].tally.torn;
	}
}

static void command_ring(const char *where, bool follow)
{
	struct place place = place_of(where);
	struct follower f;
	const char *why = follower_open(&f, &place, options.start, options.patience);
	uint64_t *record;
	bool stopped, busy;

	if (why)
		fail(where, why);
	record = room(words_of(f.reader.region.layout.record));
	ready(f.reader.region.words);
	do {
		stopped = is_stopped();
		busy = print_records(&f.reader, NULL, record);
		if (follow && !busy) {
			why = follower_go_on(&f);
			if (why)
				fail(where, why);
			/* Until it reaches the end of a ring that is still in use. */
			busy = f.again || reader_is_retired(&f.reader);
		}
	} while (!stopped || busy);
	add_tallies(&f.past, &f.reader);
	print_tally(&f.past, f.dropped_past + reader_dropped(&f.reader), f.rings);
	reader_close(&f.reader);
	free(record);
}

static void command_numa(const char *where)
{
	struct place place = place_of(where);
	struct cpu_reader *readers;
	const char *why;
	int count = numa_open(&readers, &place, options.start, options.patience, &why);
	struct tally sum = { 0 };
	uint64_t dropped = 0, *record;
	bool mapped = true, stopped, busy;

	if (count <= 0)
		fail(where, why ? why : "no CPU has a ring");
	record = room(words_of(readers[0].reader.region.layout.record));
	for (int i = 0; i < count; i++)
		mapped = mapped && readers[i].reader.region.words;
	ready(mapped);
	do {
		stopped = is_stopped();
		busy = false;
		for (int i = 0; i < count; i++)
			busy |= print_records(&readers[i].reader, &readers[i].cpu, record);
	} while (!stopped || busy);
	for (int i = 0; i < count; i++) {
		add_tallies(&sum, &readers[i].reader);
		dropped += reader_dropped(&readers[i].reader);
		reader_close(&readers[i].reader);
	}
	print_tally(&sum, dropped, 1);
	free(readers);
	free(record);
}

/* The last state of values that are printed when they change. */
struct watched {
	uint64_t *last, *value, busy;
};

static void print_value(struct region *r, struct watched *w, uint64_t at, const struct spot *spot, bool is_cell)
{
	uint64_t version, index = spot->element - (r->layout.size ? r->layout.first : 0);
	enum look look = (is_cell ? read_cell : read_latch)(r, spot, w->value, &version);

	if (look == FAILED)
		fail("the value", "a lookup failed");
	w->busy += look == BUSY;
	if (look == BUSY || version == w->last[at])
		return;
	w->last[at] = version;
	printf("value %u %" PRIu64 " %" PRIu64 " ", r->cpus[spot->copy], index, version);
	print_hex(w->value, spot->bytes);
}

static void command_values(const char *where, enum kind kind, enum kind per_cpu)
{
	struct place place = place_of(where);
	struct region r;
	const char *why = region_open(&r, &place);
	struct watched w = { 0 };
	bool stopped;

	if (!why && r.layout.kind != kind && r.layout.kind != per_cpu)
		why = "another kind of region";
	if (why)
		fail(where, why);
	w.last = room(r.layout.capacity * (uint64_t)r.copies);
	w.value = room(words_of(r.layout.record));
	ready(r.words);
	do {
		stopped = is_stopped();
		for (uint64_t i = 0; i < r.layout.capacity; i++)
			for (int copy = 0; copy < r.copies; copy++) {
				struct spot spot = { r.layout.first + i, 0, copy, r.layout.record };

				print_value(&r, &w, i * (uint64_t)r.copies + (uint64_t)copy, &spot, kind == CELLS);
			}
	} while (!stopped);
	printf("busy %" PRIu64 "\ndropped %" PRIu64 "\n", w.busy, region_sum(&r, 12));
	region_close(&r);
}

static void command_counters(const char *where)
{
	struct place place = place_of(where);
	struct region r;
	const char *why = region_open(&r, &place);
	uint64_t *last, banks;
	bool stopped;

	if (!why && r.layout.kind != COUNTERS && r.layout.kind != PERCPU_COUNTERS)
		why = "another kind of region";
	if (why)
		fail(where, why);
	banks = r.layout.kind == COUNTERS ? r.layout.shards : (uint64_t)r.copies;
	last = room(banks * r.layout.capacity);
	ready(r.words);
	do {
		stopped = is_stopped();
		for (uint64_t bank = 0; bank < banks; bank++)
			for (uint64_t i = 0; i < r.layout.capacity; i++) {
				bool shared = r.layout.kind == COUNTERS;
				uint64_t element = r.layout.first + (shared ? bank : 0), value;
				uint64_t *was = &last[bank * r.layout.capacity + i];

				if (read_counter(&r, element, shared ? 0 : (int)bank, i, &value) != WHOLE)
					fail(where, "a lookup failed");
				if (value != *was)
					printf("counter %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
					       shared ? bank : r.cpus[bank], i, value);
				*was = value;
			}
	} while (!stopped);
	printf("dropped %" PRIu64 "\n", region_sum(&r, 12));
	region_close(&r);
}

static void command_global(const char *where, const char *name)
{
	struct place place = place_of(where);
	uint64_t offset, bytes, last = 0;
	struct watched w = { .last = &last };
	struct spot spot = { 0 };
	bool told, is_cell, stopped;
	struct region r;
	struct btf btf = { 0 };
	const char *why;
	uint32_t type;
	char kind[6];

	told = sscanf(name, "%5[a-z]@%" SCNu64 ":%" SCNu64, kind, &offset, &bytes) == 3;
	why = region_open_section(&r, &place, told ? NULL : &btf, &type);
	if (!why && !told)
		why = find_global(&btf, type, name, &spot, &is_cell);
	if (told) {
		is_cell = strcmp(kind, "cell") == 0;
		spot = (struct spot){ .at = offset / 8, .bytes = bytes };
	}
	btf_close(&btf);
	if (!why && !global_fits(&r, &spot, is_cell)) {
		errno = 0;
		why = "a variable beyond the section";
	}
	if (why)
		fail(where, why);
	w.value = room(words_of(spot.bytes));
	if (!told)
		printf("%s@%" PRIu64 ":%" PRIu64 "\n", is_cell ? "cell" : "latch", spot.at * 8, spot.bytes);
	ready(r.words);
	do {
		stopped = is_stopped();
		print_value(&r, &w, 0, &spot, is_cell);
	} while (!stopped);
	printf("busy %" PRIu64 "\n", w.busy);
	if (is_cell)
		printf("dropped %" PRIu64 "\n", region_word(&r, 0, spot.at + 1 + words_of(spot.bytes)));
	region_close(&r);
}

/* For each line of numbers on stdin, a region's shape: prints the values computed from it. */
static void command_layout(void)
{
	struct layout l = { 0 };
	uint64_t resizable, one_cpu;

	while (scanf("%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &l.kind,
		     &l.record, &l.capacity, &l.shards, &resizable, &one_cpu) == 6) {
		uint64_t last = l.shards - 1;

		l.resizable = resizable;
		l.one_cpu = one_cpu;
		if (!layout_complete(&l)) {
			puts("refused");
			continue;
		}
		printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, l.size, l.per_lines, l.first,
		       l.header, l.elements, l.size * l.elements);
		if (l.kind == RING)
			printf(" %" PRIu64 " %" PRIu64, layout_header(&l, last), layout_slots(&l, last));
		putchar('\n');
	}
}

static _Noreturn void usage(void)
{
	fputs(USAGE, stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	const char *command, *where;
	int at = 1;

	for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
		if (strcmp(argv[at], "--nobody") == 0)
			become_nobody();
		else if (strcmp(argv[at], "--lookup") == 0)
			options.lookup = true;
		else if (strcmp(argv[at], "--first") == 0)
			options.start = START_FIRST;
		else if (strcmp(argv[at], "--patience") == 0 && at + 1 < argc)
			options.patience = strtoull(argv[++at], NULL, 10);
		else
			usage();
	}
	command = at < argc ? argv[at++] : "";
	where = at < argc ? argv[at++] : NULL;
	if (strcmp(command, "layout") == 0)
		command_layout();
	else if (!where)
		usage();
	else if (strcmp(command, "ring") == 0)
		command_ring(where, false);
	else if (strcmp(command, "follow") == 0)
		command_ring(where, true);
	else if (strcmp(command, "numa") == 0)
		command_numa(where);
	else if (strcmp(command, "cells") == 0)
		command_values(where, CELLS, PERCPU_CELLS);
	else if (strcmp(command, "latches") == 0)
		command_values(where, LATCHES, LATCHES);
	else if (strcmp(command, "counters") == 0)
		command_counters(where);
	else if (strcmp(command, "global") == 0 && at < argc)
		command_global(where, argv[at]);
	else
		usage();
	return fflush(stdout) ? 1 : 0;
}

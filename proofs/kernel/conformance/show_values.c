/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "show.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "values.h"

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
	putchar('\n');
}

void show_values(const struct options *options, enum kind kind)
{
	struct watched w = { 0 };
	struct region r;
	bool stopped;

	open_kind(&r, options, kind, kind == CELLS ? PERCPU_CELLS : kind);
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

void show_counters(const struct options *options)
{
	uint64_t *last, banks;
	struct region r;
	bool stopped;

	open_kind(&r, options, COUNTERS, PERCPU_COUNTERS);
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
					fail("the counters", "a lookup failed");
				if (value != *was)
					printf("counter %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
					       shared ? bank : r.cpus[bank], i, value);
				*was = value;
			}
	} while (!stopped);
	printf("dropped %" PRIu64 "\n", region_sum(&r, 12));
	region_close(&r);
}

void show_global(const struct options *options, const char *name)
{
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
	why = region_open_section(&r, &options->place, told ? NULL : &btf, &type);
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
		fail("the variable", why);
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


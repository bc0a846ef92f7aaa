/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#include "show.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "follow.h"

/* Steps of a pass beyond a lap. */
enum { SLACK = 16 };

/* A record with a tail begins with two words, of which the second is the length of the tail behind the record. */
static void print_record(const struct layout *l, const uint64_t *record)
{
	uint64_t begin = l->options & TAILS ? 2 : 0;

	print_hex(record + begin, l->record - 8 * begin);
	if (l->options & TAILS) {
		putchar(' ');
		print_hex(record + words_of(l->record), record[1]);
	}
	putchar('\n');
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
				print_record(&r->region.layout, record);
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
	printf("tally %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
	       t->delivered, t->lapped, t->skipped, t->tail_lost, t->discarded, t->stepped_over, t->torn, dropped, rings);
}

/* Prints the counts if there are new losses, for others to see while this program reads. */
static void print_losses(struct follower *f, struct tally *last)
{
	struct tally now = f->past;

	tally_add_all(&now, &f->reader);
	last->delivered = now.delivered;
	if (memcmp(last, &now, sizeof(now)) == 0)
		return;
	*last = now;
	print_tally(&now, 0, f->rings);
	fflush(stdout);
}

static void print_drops(struct reader *r)
{
	for (uint64_t shard = 0; shard < r->region.layout.shards; shard++) {
		uint64_t times[2];

		reader_drop_times(r, shard, times);
		if (times[1] != 0)
			printf("drops %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", shard, times[0], times[1]);
	}
}

void show_ring(const struct options *options, bool follow)
{
	struct tally last = { 0 };
	struct follower f;
	const char *why = follower_open(&f, &options->place, options->start, options->patience);
	uint64_t *record;
	bool stopped, busy;

	if (why)
		fail("the ring", why);
	record = room(reader_room(&f.reader));
	ready(f.reader.region.words);
	do {
		stopped = is_stopped();
		busy = print_records(&f.reader, NULL, record);
		print_losses(&f, &last);
		if (follow && !busy) {
			why = follower_go_on(&f);
			if (why)
				fail("the next ring", why);
			/* Until it reaches the end of a ring that is still in use. */
			busy = f.again || reader_is_retired(&f.reader);
		}
	} while (!stopped || busy);
	tally_add_all(&f.past, &f.reader);
	print_drops(&f.reader);
	print_loader(&f.reader.region);
	print_tally(&f.past, f.dropped_past + reader_dropped(&f.reader), f.rings);
	reader_close(&f.reader);
	free(record);
}

void show_numa(const struct options *options)
{
	struct cpu_reader *readers;
	const char *why;
	int count = numa_open(&readers, &options->place, options->start, options->patience, &why);
	struct tally sum = { 0 };
	uint64_t dropped = 0, *record;
	bool mapped = true, stopped, busy;

	if (count <= 0)
		fail("the rings", why ? why : "no CPU has a ring");
	record = room(reader_room(&readers[0].reader));
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
		tally_add_all(&sum, &readers[i].reader);
		dropped += reader_dropped(&readers[i].reader);
		reader_close(&readers[i].reader);
	}
	print_tally(&sum, dropped, 1);
	free(readers);
	free(record);
}

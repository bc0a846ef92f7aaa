/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reads regions of mapring with the C header that ships, and prints their content each time it changes, until stdin ends; then
 * what is left. proofs/kernel/tests/conformance/reader.rs parses the lines. */
#include <mapring.h>

#include <grp.h>
#include <inttypes.h>
#include <sys/prctl.h>

#include "show.h"

#define USAGE                                                                                          \
	"mapring-read [--nobody] [--lookup] [--patience N] [--first] [--wait] [--require MS] [--merged] COMMAND\n" \
	"  ring|follow|cells|latches|counters|top|histograms|gauges|readers WHERE\n"                   \
	"                       a region: a pin, id:N, maps:N (in a map of maps, under key 0) or\n"    \
	"                       memfd:PATH\n"                                                          \
	"  rings WHERE WHERE... rings, merged in the order of stamps\n"                                 \
	"  numa WHERE           a directory of pins cpu0, cpu1, ..., or maps:N\n"                      \
	"  global WHERE NAME    a global variable; NAME or cell@OFFSET:BYTES or latch@OFFSET:BYTES\n"  \
	"  push|set WHERE HEX   a command, or latch 0\n"                                                \
	"  reads PIN [HOW]      a ring, once stdin has ended\n"                                         \
	"  layout               sizes, for lines of numbers on stdin\n"                                \
	"Reads until stdin ends, and then what is left.\n"

enum { NOBODY = 65534 };

_Noreturn void fail(const char *what)
{
	fprintf(stderr, "can't open %s: %s\n", what, mapring_error());
	exit(1);
}

void *room(uint64_t words)
{
	void *room = calloc(words ? words : 1, 8);

	if (!room)
		abort();
	return room;
}

void print_hex(const void *bytes, uint64_t count)
{
	const unsigned char *byte = bytes;

	for (uint64_t i = 0; i < count; i++) {
		putchar_unlocked("0123456789abcdef"[byte[i] >> 4]);
		putchar_unlocked("0123456789abcdef"[byte[i] & 15]);
	}
}

void ready(bool mapped)
{
	printf("%s\nready\n", mapped ? "mapped" : "lookup");
	fflush(stdout);
}

bool is_stopped(void)
{
	struct pollfd in = { .fd = 0, .events = POLLIN };
	char byte;

	return poll(&in, 1, 0) > 0 && read(0, &byte, 1) <= 0;
}

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY) ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)) {
		mapring__failed("setresuid");
		fail("a reader without privilege");
	}
}

static struct mapring__locator locator_of(const char *where, int flags)
{
	struct mapring__locator locator = { .fd = -1, .flags = flags };
	const char *number = strchr(where, ':');
	bool is_maps = strncmp(where, "maps:", 5) == 0;

	if (is_maps || strncmp(where, "id:", 3) == 0) {
		locator.is_maps = is_maps;
		locator.fd = mapring__open_id((uint32_t)strtoul(number + 1, NULL, 10), !is_maps && (flags & MAPRING_LOOKUP));
	} else {
		locator.path = strdup(strncmp(where, "memfd:", 6) == 0 ? number + 1 : where);
	}
	return locator;
}

static int print_record(void *reader, const struct mapring_event *event)
{
	printf("record %" PRIu32 " %" PRIu64 " ", event->shard, event->ticket);
	print_hex(event->record, ((struct mapring_reader *)reader)->record);
	if (event->tail) {
		putchar(' ');
		print_hex(event->tail, event->tail_length);
	}
	putchar('\n');
	return 0;
}

static void print_tally(const struct mapring_stats *t)
{
	printf("tally %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 "\n",
	       t->delivered, t->lapped, t->skipped, t->tail_lost, t->discarded, t->stepped_over, t->torn,
	       t->no_slot + t->full + t->no_tail + t->too_long + t->no_shard, t->rings);
}

/* Prints the counts if there are new losses, for others to see while this program reads. */
static void print_losses(struct mapring_reader *reader, struct mapring_stats *last)
{
	struct mapring_stats now = reader->past;

	for (uint32_t i = 0; i < reader->count; i++)
		mapring__add_stats(&now, &reader->shards[i].stats);
	now.rings++;
	last->delivered = now.delivered;
	if (memcmp(last, &now, sizeof(now)) == 0)
		return;
	*last = now;
	print_tally(&now);
	fflush(stdout);
}

static void print_drops(struct mapring_reader *reader)
{
	for (uint32_t i = 0; i < reader->count; i++) {
		uint64_t at = reader->shards[i].header + MAPRING__DROPS_SINCE, times[2];

		for (uint64_t which = 0; which < 2; which++)
			times[which] = mapring__word(reader->shards[i].region, 0, at + which);
		if (times[1] != 0)
			printf("drops %" PRIu32 " %" PRIu64 " %" PRIu64 "\n", reader->shards[i].number, times[0], times[1]);
	}
}

/* Prints the loader that a preamble names, and whether it is alive. */
static void print_loader(struct mapring_region *r)
{
	uint64_t loader = mapring__word(r, 0, MAPRING__LOADER), name = mapring__word(r, 0, MAPRING__LOADER - 1);

	if (loader == 0 || ((const unsigned char *)&name)[7] != 0) /* byte 87 of the preamble: a long name of layout version 1 */
		puts("loader unknown");
	else
		printf("loader %" PRIu64 " %s\n", loader & ((1 << 22) - 1), mapring__process_lives(loader) ? "alive" : "gone");
}

static uint64_t first_word(const void *record)
{
	uint64_t word;

	memcpy(&word, record, sizeof(word));
	return word;
}

/* How a ring is read, apart from what its reader's options say. */
struct manner {
	bool waits;
	uint64_t lease_ms; /* 0: not required */
};

static void show_ring(const struct mapring__locator *locator, bool per_cpu, const struct mapring_reader_opts *opts,
		      const struct manner *manner)
{
	struct mapring_reader *reader = mapring__reader_at(*locator, per_cpu, opts);
	struct mapring_stats stats = { .rings = 1 };
	uint64_t wakes = 0;
	bool stopped;
	long found;

	if (!reader || (manner->waits && mapring_reader__fd(reader) < 0) ||
	    (manner->lease_ms && mapring_reader__require(reader, manner->lease_ms * 1000000) < 0))
		fail("the ring");
	ready(mapring_reader__is_mapped(reader));
	do {
		stopped = is_stopped();
		if (manner->waits && mapring_reader__wait(reader, 50) > 0)
			wakes += mapring__has_rung(reader->seat);
		found = mapring_reader__for_each(reader, reader->record, print_record, reader);
		if (found < 0)
			fail("the ring");
		print_losses(reader, &stats);
		if (found > 0)
			fflush(stdout);
	} while (!stopped || found > 0 || mapring__holds_any(reader) || mapring__unread_of_all(reader, true) != MAPRING__NOTHING);
	print_drops(reader);
	print_loader(&reader->regions[0]);
	if (mapring_reader__stats(reader, &stats) < 0)
		fail("the ring");
	print_tally(&stats);
	if (manner->waits)
		printf("wakes %" PRIu64 "\n", wakes);
	mapring_reader__free(reader);
}

struct one_ring {
	int index;
	struct mapring_reader *reader;
};

static int print_record_of(void *ring, const struct mapring_event *event)
{
	printf("ring %d\n", ((struct one_ring *)ring)->index);
	return print_record(((struct one_ring *)ring)->reader, event);
}

/* Prints the records of several rings in one order, and the sum of their counts. */
static void show_rings(char **locators, int count, const struct mapring_reader_opts *opts, const struct manner *manner)
{
	struct mapring_merged *merged = mapring_merged__new();
	struct one_ring *rings = room((uint64_t)count * 2);
	struct mapring_stats sum = { .rings = 0 };
	bool mapped = true, holds, stopped;
	long found;

	if (!merged)
		abort();
	for (int i = 0; i < count; i++) {
		struct mapring_reader *reader = mapring__reader_at(locator_of(locators[i], opts->flags), false, opts);

		rings[i] = (struct one_ring){ i, reader };
		if (!reader || (manner->waits && mapring_reader__fd(reader) < 0) ||
		    mapring_merged__add(merged, reader, reader->record, print_record_of, &rings[i]) < 0)
			fail("the ring");
		mapped = mapped && mapring_reader__is_mapped(reader);
	}
	ready(mapped);
	do {
		stopped = is_stopped();
		if (manner->waits && mapring_merged__wait(merged, 50) < 0)
			fail("the rings");
		found = mapring_merged__for_each(merged);
		if (found < 0)
			fail("the rings");
		fflush(stdout);
		holds = false;
		for (int i = 0; i < count; i++)
			holds = holds || mapring__holds_any(merged->readers[i]) ||
				mapring__unread_of_all(merged->readers[i], true) != MAPRING__NOTHING;
	} while (!stopped || found > 0 || holds);
	for (int i = 0; i < count; i++) {
		struct mapring_stats stats;

		if (mapring_reader__stats(merged->readers[i], &stats) < 0)
			fail("the ring");
		mapring__add_stats(&sum, &stats);
		mapring_reader__free(merged->readers[i]);
	}
	print_tally(&sum);
	mapring_merged__free(merged);
	free(rings);
}

/* For each line of numbers on stdin, a region's shape: prints the values computed from it, the last two in bytes. */
static void print_layouts(void)
{
	uint64_t kind, record, capacity, shards;

	while (scanf("%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &kind, &record, &capacity, &shards) == 4) {
		struct mapring_layout l = { .record = record, .capacity = capacity, .shards = shards };
		uint64_t last = shards - 1;

		if (!mapring__read_kind(&l, kind) || !mapring__complete(&l)) {
			puts("refused");
			continue;
		}
		printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, l.size, l.per_lines, l.first,
		       l.header, l.elements, l.size * l.elements);
		if (l.kind == MAPRING_KIND_RING)
			printf(" %" PRIu64 " %" PRIu64, 8 * mapring__header_at(&l, last), 8 * mapring__slots_at(&l, last));
		putchar('\n');
	}
}

int main(int argc, char **argv)
{
	struct mapring_reader_opts opts = { .start = MAPRING_OLDEST };
	const char *command, *where;
	struct mapring__locator locator;
	struct manner manner = { false, 0 };
	int at = 1;

	for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
		if (strcmp(argv[at], "--nobody") == 0)
			become_nobody();
		else if (strcmp(argv[at], "--lookup") == 0)
			opts.flags = MAPRING_LOOKUP;
		else if (strcmp(argv[at], "--first") == 0)
			opts.start = MAPRING_FIRST;
		else if (strcmp(argv[at], "--wait") == 0)
			manner.waits = true;
		else if (strcmp(argv[at], "--merged") == 0)
			opts.stamp = first_word;
		else if (strcmp(argv[at], "--require") == 0 && at + 1 < argc)
			manner.lease_ms = strtoull(argv[++at], NULL, 10);
		else if (strcmp(argv[at], "--patience") == 0 && at + 1 < argc)
			opts.patience_ns = strtoull(argv[++at], NULL, 10);
	}
	command = at < argc ? argv[at++] : "";
	where = at < argc ? argv[at++] : NULL;
	if (where && strcmp(command, "reads") == 0) {
		if (at == argc || strcmp(argv[at], "types") != 0)
			become_nobody();
		return reads(where, at < argc ? argv[at] : "");
	}
	if (where)
		locator = locator_of(where, opts.flags);
	if (strcmp(command, "layout") == 0)
		print_layouts();
	else if (where && (strcmp(command, "ring") == 0 || strcmp(command, "follow") == 0))
		show_ring(&locator, false, &opts, &manner);
	else if (where && strcmp(command, "rings") == 0)
		show_rings(argv + at - 1, argc - at + 1, &opts, &manner);
	else if (where && strcmp(command, "numa") == 0)
		show_ring(&locator, true, &opts, &manner);
	else if (where && strcmp(command, "global") == 0 && at < argc)
		show_global(&locator, argv[at]);
	else if (where && at < argc && (strcmp(command, "push") == 0 || strcmp(command, "set") == 0))
		write_value(&locator, command[0] == 'p', argv[at]);
	else if (!where || !show_region(command, &locator)) {
		fputs(USAGE, stderr);
		return 2;
	}
	return fflush(stdout) ? 1 : 0;
}

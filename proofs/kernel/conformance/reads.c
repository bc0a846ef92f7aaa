/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reads a ring once stdin has ended, and prints what it found, as readers in other languages do: tests/options/languages.rs. */
#include "show.h"

#include <inttypes.h>
#include <unistd.h>

static int print(void *unused, const struct mapring_event *event)
{
	uint64_t rec[2]; /* struct rec of bpf/options.bpf.c */

	(void)unused;
	memcpy(rec, event->record, sizeof(rec));
	printf("record %" PRIu32 " %" PRIu64 " %" PRIu64 " %" PRIu64 " ", event->shard, event->ticket, rec[0], rec[1]);
	print_hex(event->tail, event->tail_length);
	putchar('\n');
	return 0;
}

/* What a ring without options can't do, or one whose other maps are not found. */
static int asks(struct mapring_reader *reader, const char *how)
{
	return strcmp(how, "bell") == 0 ? mapring_reader__fd(reader) : strcmp(how, "require") == 0 ? mapring_reader__require(reader, 1) : 0;
}

int reads(const char *pin, const char *how)
{
	struct mapring_reader_opts opts = { .start = strcmp(how, "oldest") == 0 ? MAPRING_OLDEST : MAPRING_FIRST };
	struct mapring_reader *reader = mapring_reader__open(pin, &opts);
	size_t size = strcmp(how, "wrong") == 0 ? 24 : 16;
	struct mapring_stats s;
	long found = reader ? asks(reader, how) : -1;
	char byte;

	/* The size is compared when records are read. */
	if (found == 0 && size != mapring_reader__record(reader))
		found = mapring_reader__for_each(reader, size, print, NULL);
	if (found == 0) {
		puts(mapring_reader__is_mapped(reader) ? "mapped" : "by system call");
		fflush(stdout);
		while (read(0, &byte, 1) > 0)
			;
	}
	/* A record that was not ended holds back later ones, for some passes and 10 ms. */
	for (int empty = 0; found >= 0 && empty < 64; empty = found > 0 ? 0 : empty + 1) {
		found = mapring_reader__for_each(reader, size, print, NULL);
		usleep(1000);
	}
	if (found < 0 || mapring_reader__stats(reader, &s) < 0) {
		fprintf(stderr, "%s\n", mapring_error());
		return 1;
	}
	printf("delivered %" PRIu64 " lapped %" PRIu64 " skipped %" PRIu64 " tail_lost %" PRIu64 " discarded %" PRIu64
	       " stepped_over %" PRIu64 " no_slot %" PRIu64 " full %" PRIu64 " no_shard %" PRIu64 " no_tail %" PRIu64
	       " too_long %" PRIu64 "\n",
	       s.delivered, s.lapped, s.skipped, s.tail_lost, s.discarded, s.stepped_over, s.no_slot, s.full, s.no_shard, s.no_tail,
	       s.too_long);
	mapring_reader__free(reader);
	return fflush(stdout) ? 1 : 0;
}

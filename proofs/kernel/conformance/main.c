/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Reads regions of mapring and prints their content, in plain C: written from docs/abi.md,
 * with only libc and bpf(2). To build and run:
 *
 *	cc -std=c11 -O2 -o mapring-read *.c			(in this folder)
 *	mapring-read ring /sys/fs/bpf/events < /dev/null
 *
 * words.h    loads and fences		layout.c   the layout		kernel.c   bpf(2)
 * region.c   opening, lookups		btf.c      without a preamble	ring.c     rings
 * describe.c the same, to a layout	follow.c   rings of several maps
 * values.c   cells, latches, counters, global variables
 * tables.c   histograms, gauges, top keys	show*.c    what is printed
 */
#define _GNU_SOURCE
#include <grp.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "show.h"

#define USAGE                                                                                          \
	"mapring-read [--nobody] [--lookup] [--patience N] [--first] COMMAND\n"                        \
	"  ring|follow|cells|latches|counters|top|histograms|gauges|readers WHERE\n"                   \
	"                       a region: a pin, id:N, maps:N (in a map of maps, under key 0) or\n"    \
	"                       memfd:PATH\n"                                                          \
	"  numa WHERE           a directory of pins cpu0, cpu1, ..., or maps:N\n"                      \
	"  global WHERE NAME    a global variable; NAME or cell@OFFSET:BYTES or latch@OFFSET:BYTES\n"  \
	"  layout               sizes, for lines of numbers on stdin\n"                                \
	"Reads until stdin ends, and then what is left.\n"

enum { NOBODY = 65534 };

static void become_nobody(void)
{
	if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) || setresuid(NOBODY, NOBODY, NOBODY) ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fail("a reader without privilege", "setresuid");
}

static struct place place_of(const char *where, bool by_lookup)
{
	static const struct {
		const char *prefix;
		int by;
	} WAYS[] = { { "id:", MAP_ID }, { "maps:", MAP_OF_MAPS }, { "memfd:", MEMFD } };
	struct place place = { .by = PIN, .path = where, .by_lookup = by_lookup };

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

/* For each line of numbers on stdin, a region's shape: prints the values computed from it, the last two in bytes. */
static void print_layouts(void)
{
	uint64_t kind, record, capacity, shards;

	while (scanf("%" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64, &kind, &record, &capacity, &shards) == 4) {
		struct layout l = { .record = record, .capacity = capacity, .shards = shards };
		uint64_t last = shards - 1;

		if (!layout_read_kind(&l, kind) || !layout_complete(&l)) {
			puts("refused");
			continue;
		}
		printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64, l.size, l.per_lines, l.first,
		       l.header, l.elements, l.size * l.elements);
		if (l.kind == RING)
			printf(" %" PRIu64 " %" PRIu64, 8 * layout_header(&l, last), 8 * layout_slots(&l, last));
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
	struct options options = { .start = START_OLDEST, .patience = 1 << 14 };
	const char *command, *where;
	bool by_lookup = false;
	int at = 1;

	for (; at < argc && strncmp(argv[at], "--", 2) == 0; at++) {
		if (strcmp(argv[at], "--nobody") == 0)
			become_nobody();
		else if (strcmp(argv[at], "--lookup") == 0)
			by_lookup = true;
		else if (strcmp(argv[at], "--first") == 0)
			options.start = START_FIRST;
		else if (strcmp(argv[at], "--patience") == 0 && at + 1 < argc)
			options.patience = strtoull(argv[++at], NULL, 10);
		else
			usage();
	}
	command = at < argc ? argv[at++] : "";
	where = at < argc ? argv[at++] : NULL;
	if (where)
		options.place = place_of(where, by_lookup);
	if (strcmp(command, "layout") == 0)
		print_layouts();
	else if (!where)
		usage();
	else if (strcmp(command, "ring") == 0)
		show_ring(&options, false);
	else if (strcmp(command, "follow") == 0)
		show_ring(&options, true);
	else if (strcmp(command, "numa") == 0)
		show_numa(&options);
	else if (strcmp(command, "cells") == 0)
		show_values(&options, CELLS);
	else if (strcmp(command, "latches") == 0)
		show_values(&options, LATCHES);
	else if (strcmp(command, "counters") == 0)
		show_counters(&options);
	else if (strcmp(command, "global") == 0 && at < argc)
		show_global(&options, argv[at]);
	else if (strcmp(command, "top") == 0)
		show_top(&options);
	else if (strcmp(command, "histograms") == 0)
		show_histograms(&options);
	else if (strcmp(command, "gauges") == 0)
		show_gauges(&options);
	else if (strcmp(command, "readers") == 0)
		show_readers(&options);
	else
		usage();
	return fflush(stdout) ? 1 : 0;
}

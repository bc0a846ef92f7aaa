/* SPDX-License-Identifier: MIT OR Apache-2.0 */
#define _GNU_SOURCE
#include "show.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { PREAMBLE_NAME_END = 10, PREAMBLE_LOADER };

_Noreturn void fail(const char *what, const char *why)
{
	if (errno)
		fprintf(stderr, "can't open %s: %s: %s\n", what, why, strerror(errno));
	else
		fprintf(stderr, "can't open %s: %s\n", what, why);
	exit(1);
}

void *room(uint64_t words)
{
	void *room = calloc(words ? words : 1, 8);

	if (!room)
		fail("a buffer", "no memory");
	return room;
}

void print_hex(const uint64_t *words, uint64_t bytes)
{
	const unsigned char *byte = (const void *)words;

	for (uint64_t i = 0; i < bytes; i++) {
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

void open_kind(struct region *r, const struct options *options, enum kind kind, enum kind other)
{
	const char *why = region_open(r, &options->place);

	if (!why && r->layout.kind != kind && r->layout.kind != other)
		why = "another kind of region";
	if (why)
		fail("the region", why);
}

/* Field 22 of a process's stat: behind the name in parentheses, which can hold anything, is field 3. */
static bool read_start_time(uint64_t pid, uint64_t *time)
{
	char path[64], line[4096], *at;
	size_t length;
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%" PRIu64 "/stat", pid);
	stat = fopen(path, "r");
	if (!stat)
		return false;
	length = fread(line, 1, sizeof(line) - 1, stat);
	fclose(stat);
	line[length] = 0;
	at = strrchr(line, ')');
	for (int field = 2; at && field < 22; field++)
		at = strchr(at + 1, ' ');
	return at && sscanf(at, "%" SCNu64, time) == 1;
}

void print_loader(struct region *r)
{
	uint64_t loader = region_word(r, 0, PREAMBLE_LOADER), pid = loader & ((1 << 22) - 1), time;
	uint64_t name = region_word(r, 0, PREAMBLE_NAME_END);

	if (loader == 0 || ((const unsigned char *)&name)[7] != 0) /* byte 87 of the preamble */
		puts("loader unknown");
	else
		printf("loader %" PRIu64 " %s\n", pid,
		       read_start_time(pid, &time) && time == loader >> 22 ? "alive" : "gone");
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The reader of bindings/c, for the group `c`. */
#include <mapring.h>

/* `Seen` in side_by_side/programs.rs. */
struct seen {
	uint64_t count, sum;
};

struct small {
	uint64_t words[7];
};

struct large {
	uint64_t words[512];
};

static int add(void *context, const struct mapring_event *event)
{
	const uint64_t *w = ((const struct small *)event->record)->words;
	struct seen *seen = (struct seen *)context;
	uint64_t sum = w[0] + w[1] + w[2] + w[3] + w[4] + w[5] + w[6]; /* gcc -O2 unrolls no loop of this length */

	seen->count++;
	seen->sum += sum;
	return 0;
}

static int add_ends(void *context, const struct mapring_event *event)
{
	const struct large *record = (const struct large *)event->record;
	struct seen *seen = (struct seen *)context;

	__asm__ volatile("" : : "r"(record) : "memory"); /* as `black_box` */
	seen->count++;
	seen->sum += record->words[0] + record->words[511];
	return 0;
}

/* A reader of the ring of this descriptor, which starts now. */
struct mapring_reader *bench_open(int fd)
{
	const struct mapring_reader_opts opts = { .start = MAPRING_NOW };

	return mapring_reader__open_fd(fd, &opts);
}

void bench_free(struct mapring_reader *reader)
{
	mapring_reader__free(reader);
}

/* So many passes over records of 56 bytes. A local variable can be in registers, as Rust's `&mut` can. */
long bench_small(struct mapring_reader *reader, struct seen *seen, long passes)
{
	struct seen sum = *seen;
	long found = 0;

	while (passes-- > 0)
		found += mapring_reader__for_each(reader, sizeof(struct small), add, &sum);
	*seen = sum;
	return found;
}

/* The same of 4 KiB. */
long bench_large(struct mapring_reader *reader, struct seen *seen, long passes)
{
	long found = 0;

	while (passes-- > 0)
		found += mapring_reader__for_each(reader, sizeof(struct large), add_ends, seen);
	return found;
}

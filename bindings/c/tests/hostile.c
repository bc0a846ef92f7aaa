/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Reads everything in the regions whose paths it gets on stdin, whatever they contain: for each, one line on stdout, which begins
 * with `read` or `refused`. proofs/hostile/tests/hostile/c.rs compiles it with sanitizers, and forges the regions. */
#include <mapring.h>

#include <inttypes.h>

/* Passes over a ring: more than one looks past tickets that are not claimed. */
enum { PASSES = 40 };

struct seen {
	uint64_t records, sum;
	size_t size;
};

static int add(void *context, const struct mapring_event *event)
{
	struct seen *seen = (struct seen *)context;

	seen->records++;
	for (size_t i = 0; i < seen->size; i++)
		seen->sum += ((const unsigned char *)event->record)[i];
	for (size_t i = 0; i < event->tail_length; i++)
		seen->sum += ((const unsigned char *)event->tail)[i];
	return event->ticket == ~0ULL ? -ECANCELED : 0;
}

static uint64_t first_byte(const void *record)
{
	return *(const unsigned char *)record;
}

/* Puts a copy of exactly the region's bytes in place of its mapping: the sanitizer finds a load beyond it. */
static uint64_t *on_heap(struct mapring_region *r)
{
	uint64_t *copy = (uint64_t *)malloc(r->mapped);

	if (!copy)
		abort();
	mapring__copy(copy, r->words, r->mapped / 8);
	mapring__unmap(r);
	r->words = copy;
	return copy;
}

static void off_heap(struct mapring_region *r, uint64_t *copy)
{
	r->words = NULL;
	free(copy);
}

/* Reads a ring from each start, in turn and in order. Returns the records. */
static uint64_t read_ring(const char *path)
{
	struct seen seen = { 0, 0, 0 };

	for (int way = 0; way < 6; way++) {
		struct mapring_reader_opts opts;
		struct mapring_stats stats;
		struct mapring_reader *reader;
		uint64_t *copy = NULL;

		memset(&opts, 0, sizeof(opts));
		opts.start = (enum mapring_start)(way % 3);
		opts.patience_ns = 1;
		opts.stamp = way < 3 ? NULL : first_byte;
		reader = mapring_reader__open(path, &opts);
		if (!reader)
			continue;
		seen.size = reader->record;
		if (way % 2 == 0) {
			copy = on_heap(&reader->regions[0]);
			mapring__reader_shards(reader, opts.start);
		}
		for (int pass = 0; pass < PASSES; pass++) {
			if (mapring_reader__for_each(reader, reader->record, add, &seen) < 0)
				break;
			mapring__unread_of_all(reader, false);
		}
		mapring_reader__wait(reader, 0);
		mapring_reader__stats(reader, &stats);
		if (copy)
			off_heap(&reader->regions[0], copy);
		mapring_reader__free(reader);
	}
	return seen.records;
}

/* Merges a ring with itself. */
static uint64_t read_twice(const char *path)
{
	struct mapring_merged *merged = mapring_merged__new();
	struct mapring_reader *readers[2];
	struct mapring_reader_opts opts;
	struct seen seen = { 0, 0, 0 };

	memset(&opts, 0, sizeof(opts));
	opts.patience_ns = 1;
	opts.stamp = first_byte;
	for (int i = 0; i < 2; i++) {
		readers[i] = mapring_reader__open(path, &opts);
		if (readers[i] && merged) {
			seen.size = readers[i]->record;
			mapring_merged__add(merged, readers[i], seen.size, add, &seen);
		}
	}
	for (int pass = 0; merged && pass < PASSES; pass++)
		if (mapring_merged__for_each(merged) < 0)
			break;
	if (merged)
		mapring_merged__wait(merged, 0);
	mapring_merged__free(merged);
	mapring_reader__free(readers[0]);
	mapring_reader__free(readers[1]);
	return seen.records;
}

static uint64_t read_values(struct mapring_region *r, void *value)
{
	struct mapring_window *windows = (struct mapring_window *)calloc(MAPRING_WINDOWS, sizeof(*windows));
	struct mapring_histogram histogram;
	uint64_t sum = 0, found, version;

	memset(&histogram, 0, sizeof(histogram));
	for (uint64_t i = 0; i <= r->layout.capacity && i < 4096; i++) {
		if (r->layout.kind == MAPRING_KIND_CELLS)
			sum += mapring_cell__read(r, 0, i, value, &version) == 0;
		if (r->layout.kind == MAPRING_KIND_LATCHES)
			sum += mapring_latch__read(r, i, value, &version) == 0;
		if (r->layout.kind == MAPRING_KIND_COUNTERS)
			sum += mapring_counter__sum(r, i, &found) == 0;
		for (uint64_t shard = 0; shard <= r->layout.shards; shard++) {
			sum += mapring_histogram__add(r, shard, i, &histogram) == 0;
			sum += windows && mapring_gauge__read(r, shard, i, windows) >= 0;
		}
	}
	for (double percent = -10; percent < 120; percent += 10)
		mapring_histogram__percentile(&histogram, percent);
	free(windows);
	return sum;
}

/* Reads a region of any other kind, and writes it if its kind is written by userspace. */
static uint64_t read_region(const char *path, struct mapring_region *r)
{
	enum mapring_kind kind = (enum mapring_kind)r->layout.kind;
	size_t keys = (size_t)(r->layout.shards * r->layout.capacity * MAPRING_KEYS);
	void *value = calloc(1, r->layout.record + 8);
	uint64_t *copy = on_heap(r), sum = value ? read_values(r, value) : 0, number;

	if (kind == MAPRING_KIND_TOP_KEYS) {
		struct mapring_key *all = (struct mapring_key *)calloc(keys, sizeof(*all));

		sum += all && mapring_top__read(r, all, &number) >= 0;
		free(all);
	}
	if (kind == MAPRING_KIND_COMMANDS || kind == MAPRING_KIND_LATCHES) {
		struct mapring_region *w = mapring_region__open(path, kind, 0, MAPRING_WRITE);

		for (uint64_t i = 0; w && i <= w->layout.capacity && i < 64; i++) {
			if (kind == MAPRING_KIND_COMMANDS)
				sum += mapring_commands__push(w, value, &number) == 0;
			else
				sum += mapring_latch__set(w, i, value) == 0;
		}
		if (w)
			mapring_commands__acknowledged(r, &number);
		mapring_region__free(w);
	}
	mapring_region__dropped(r, &number);
	off_heap(r, copy);
	free(value);
	return sum;
}

int main(void)
{
	char path[256];

	while (fgets(path, sizeof(path), stdin)) {
		struct mapring_region r;
		uint64_t found;
		int fd;

		path[strcspn(path, "\n")] = 0;
		fd = open(path, O_RDWR | O_CLOEXEC);
		if (mapring__region_of_fd(&r, fd, 0) < 0) {
			printf("refused %s\n", mapring_error());
		} else {
			found = r.layout.kind == MAPRING_KIND_RING ? read_ring(path) + read_twice(path) : read_region(path, &r);
			printf("read %" PRIu64 "\n", found);
			mapring__region_close(&r);
		}
		fflush(stdout);
	}
	return 0;
}

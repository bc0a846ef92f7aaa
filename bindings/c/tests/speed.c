/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What a record of 56 bytes costs a reader, beside libbpf's ring buffer: `speed OBJECT`, of bindings/go/testdata/beside.bpf.c. Prints
 * both in ns; no number can fail it. */
#include <mapring_loader.h>

#include <sched.h>

enum { ROUNDS = 301, RUNS = 8, RECORDS = 256 * RUNS };

static int see(uint64_t *whole, const void *record)
{
	const uint64_t *words = (const uint64_t *)record;

	*whole += words[6] == words[0] + 6;
	return 0;
}

static int on_event(void *whole, const struct mapring_event *event)
{
	return see((uint64_t *)whole, event->record);
}

static int on_sample(void *whole, void *record, size_t size)
{
	(void)size;
	return see((uint64_t *)whole, record);
}

static uint64_t now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int is_more(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static int write_with(const struct bpf_object *object, const char *program)
{
	LIBBPF_OPTS(bpf_test_run_opts, opts);
	int fd = bpf_program__fd(bpf_object__find_program_by_name(object, program));

	for (int run = 0; run < RUNS; run++)
		if (bpf_prog_test_run_opts(fd, &opts) != 0 || opts.retval != 0)
			return -1;
	return 0;
}

int main(int argc, char **argv)
{
	struct bpf_object *object = argc == 2 ? bpf_object__open_file(argv[1], NULL) : NULL;
	static uint64_t ours[ROUNDS], theirs[ROUNDS];
	struct mapring_reader *reader;
	struct ring_buffer *ring;
	uint64_t whole = 0;
	cpu_set_t first;

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	if (sched_setaffinity(0, sizeof(first), &first) != 0 || !object || mapring_loader__prepare(object, NULL) != 0 ||
	    bpf_object__load(object) != 0 || mapring_loader__initialize(object) != 0) {
		fprintf(stderr, "speed OBJECT: %s\n", mapring_error());
		return 1;
	}
	reader = mapring_reader__open_fd(bpf_object__find_map_fd_by_name(object, "events"), NULL);
	ring = ring_buffer__new(bpf_object__find_map_fd_by_name(object, "ringbuf"), on_sample, &whole, NULL);
	for (int round = 0; reader && ring && round < ROUNDS; round++) {
		uint64_t begin, middle;

		if (write_with(object, "to_ring") != 0)
			return 1;
		begin = now();
		mapring_reader__for_each(reader, 56, on_event, &whole);
		ours[round] = now() - begin;
		if (write_with(object, "to_ringbuf") != 0)
			return 1;
		middle = now();
		ring_buffer__consume(ring);
		theirs[round] = now() - middle;
	}
	if (whole != 2ULL * ROUNDS * RECORDS) {
		fprintf(stderr, "%llu whole records: %s\n", (unsigned long long)whole, mapring_error());
		return 1;
	}
	qsort(ours, ROUNDS, sizeof(*ours), is_more);
	qsort(theirs, ROUNDS, sizeof(*theirs), is_more);
	printf("mapring_reader__for_each %.1f ns, ring_buffer__consume %.1f ns\n", (double)ours[ROUNDS / 2] / RECORDS,
	       (double)theirs[ROUNDS / 2] / RECORDS);
	ring_buffer__free(ring);
	mapring_reader__free(reader);
	bpf_object__close(object);
	return 0;
}

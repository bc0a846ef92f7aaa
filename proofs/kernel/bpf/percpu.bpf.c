// SPDX-License-Identifier: MIT OR Apache-2.0
/* Per-CPU cells and counters, written by programs that tests run, and read from other CPUs. */
#include <mapring/percpu.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

struct rec_4 {
	__u32 words[1];
};

struct rec_12 {
	__u32 words[3];
};

struct rec_56 {
	__u32 words[14];
};

struct rec_4096 {
	__u32 words[1024];
};

MAPRING_PERCPU_CELLS(cells_4, struct rec_4, 3);
MAPRING_PERCPU_CELLS(cells_12, struct rec_12, 3);
MAPRING_PERCPU_CELLS(cells_56, struct rec_56, 200);
MAPRING_PERCPU_CELLS(cells_4096, struct rec_4096, 3);
MAPRING_PERCPU_CELL(copied, struct rec_56);
MAPRING_PERCPU_COUNTERS(counters_1, 1);
MAPRING_PERCPU_COUNTERS(counters_512, 512);

/* Publishes record `n` in the cell `index`; with `op` 1, writes half and never ends it. */
#define WRITE(size)                                                                       \
	SEC("syscall")                                                                    \
	int write_##size(struct args *args)                                               \
	{                                                                                 \
		struct rec_##size *r = mapring_cell_begin(&cells_##size, args->index);    \
                                                                                          \
		args->done = !!r;                                                         \
		if (!r)                                                                   \
			return 0;                                                         \
		if (args->op) {                                                           \
			FILL_WORDS(r, args->n, (size / 4 + 1) / 2);                       \
			return 0;                                                         \
		}                                                                         \
		FILL_WORDS(r, args->n, size / 4);                                         \
		mapring_cell_end(r);                                                      \
		return 0;                                                                 \
	}

WRITE(4)
WRITE(12)
WRITE(56)
WRITE(4096)

SEC("syscall")
int copy(struct args *args)
{
	struct rec_56 ready;

	FILL_WORDS(&ready, args->n, 14);
	args->done = mapring_cell_set(&copied, args->index, &ready) == 0;
	return 0;
}

/* Records n, n + 1, ... one after the other, `index` many (64 at most). */
SEC("syscall")
int stream(struct args *args)
{
	for (__u32 k = 0; k < 64 && k < args->index; k++) {
		struct rec_56 *r = mapring_cell_begin(&cells_56, 1);

		if (!r)
			return 0;
		FILL_WORDS(r, args->n + k, 14);
		mapring_cell_end(r);
		args->done++;
	}
	return 0;
}

SEC("syscall")
int count(struct args *args)
{
	mapring_counter_add(&counters_512, args->index, args->n);
	mapring_counter_inc(&counters_1, args->index);
	return 0;
}

/* Reads the first word of the cell `index` of CPU `op`, and its counter 3. `n`: 0 if the cell could not be read, 1 if
 * the value is whole, 2 if not. */
SEC("syscall")
int read_other(struct args *args)
{
	struct rec_56 there = {};
	__u64 whole = mapring_cell_read(&cells_56, args->op, args->index, &there) == 0;

	for (__u32 i = 0; i < 14; i++)
		if (whole && there.words[i] != there.words[0] + i)
			whole = 2;
	args->n = whole; /* written once: clang 22 would compute its address, which the verifier refuses */
	args->done = there.words[0];
	args->index = mapring_counter_read(&counters_512, args->op, 3);
	return 0;
}

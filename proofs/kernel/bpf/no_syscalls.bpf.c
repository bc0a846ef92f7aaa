// SPDX-License-Identifier: MIT OR Apache-2.0
/* Data for readers without system calls: every kind, and records too large for registers. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/global.bpf.h>
#include <mapring/latch.bpf.h>
#include <mapring/ring.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

struct rec {
	__u32 words[14];
};

struct large {
	__u32 words[128];
};

MAPRING_RING(ring, struct rec, 64);
MAPRING_RING(large, struct large, 8);
MAPRING_CELLS(cells, struct rec, 2);
MAPRING_LATCHES(latches, struct rec, 2); /* written by userspace */
MAPRING_COUNTERS(counters, 10);

/* Global variables: userspace writes the latch. */
__u64 turns = 0;
MAPRING_GLOBAL_CELL(global_cell, struct rec);
MAPRING_GLOBAL_LATCH(global_latch, struct rec);

/* Writes records n, n + 1, … (`index` many, 64 at most), cell 1's n-th values, and counts. */
SEC("syscall")
int write(struct args *args)
{
	for (__u32 k = 0; k < 64 && k < args->index; k++) {
		__u64 n = args->n + k;
		struct rec *r = mapring_reserve(&ring);

		if (r) {
			FILL_WORDS(r, n, 14);
			mapring_commit(&ring, r);
			args->done++;
		}
		r = mapring_cell_begin(&cells, 1);
		if (r) {
			FILL_WORDS(r, n, 14);
			mapring_cell_end(r);
		}
		mapring_counter_add(&counters, n % 10, 3);
	}
	return 0;
}

/* Writes the large record n, and the n-th values of cell 0 and of the global cell; reads the latch. */
SEC("syscall")
int write_large(struct args *args)
{
	struct large *r = mapring_reserve(&large);
	struct rec *value, now;

	if (r) {
		FILL_WORDS(r, args->n, 128);
		mapring_commit(&large, r);
		args->done++;
	}
	value = mapring_cell_begin(&cells, 0);
	if (value) {
		FILL_WORDS(value, args->n, 14);
		mapring_cell_end(value);
	}
	value = mapring_cell_begin(&global_cell);
	if (value) {
		FILL_WORDS(value, args->n, 14);
		mapring_cell_end(value);
	}
	args->index = mapring_latch_read(&global_latch, &now);
	__sync_fetch_and_add(&turns, 1);
	return 0;
}

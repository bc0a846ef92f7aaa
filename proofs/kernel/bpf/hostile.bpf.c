// SPDX-License-Identifier: MIT OR Apache-2.0
/* A program that writes and reads memory that another process overwrites at random: for `hostile-tests`. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/latch.bpf.h>
#include <mapring/ring.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

/* `Record` in proofs/hostile/src/record.rs. */
struct record {
	__u64 n, product, inverse;
};

MAPRING_RING(ring, struct record, 16);
MAPRING_CELLS(cells, struct record, 2);
MAPRING_LATCHES(latches, struct record, 2);
MAPRING_COUNTERS(counters, 3);

static __always_inline void fill(struct record *r, __u64 n)
{
	r->n = n;
	r->product = n * 0x9e3779b97f4a7c15ULL;
	r->inverse = ~n;
}

/* Record n, in the ring and in a cell; counts, and reads a latch. `done`: 1, 2 and 4 for each success. */
SEC("syscall")
int write(struct args *args)
{
	struct record *r = mapring_reserve(&ring), now;
	__u64 done = 0;

	if (r) {
		fill(r, args->n);
		if (args->n % 7 == 0)
			mapring_discard(&ring, r);
		else
			mapring_commit(&ring, r);
		done |= 1;
	}
	r = mapring_cell_begin(&cells, args->index);
	if (r) {
		fill(r, args->n);
		mapring_cell_end(r);
		done |= 2;
	}
	mapring_counter_add(&counters, args->n % 4, 1); /* there are three */
	if (mapring_latch_read(&latches, args->index, &now) == 0)
		done |= 4;
	args->done = done;
	return 0;
}

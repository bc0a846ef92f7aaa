// SPDX-License-Identifier: MIT OR Apache-2.0
/* Regions whose flags the loader sets, and two with values that the kernel never maps. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/ring.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

struct rec {
	__u32 words[14];
};

MAPRING_RING(ring, struct rec, 64);
MAPRING_CELLS(cells, struct rec, 2);
MAPRING_COUNTERS(counters, 10);

/* Writes records n, n + 1, … (`index` many, 64 at most), the cells' n-th values, and counts. */
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

/* The kernel protects a lock from userspace, so it maps no part of the value. */
struct bpf_spin_lock {
	__u32 val;
};

/* Behind the words that programs and readers use of the preamble and of a shard's header. */
struct locked {
	__u32 words[35];
	struct bpf_spin_lock lock;
};

MAPRING_RING(locked_ring, struct locked, 64);
MAPRING_CELLS(locked_cells, struct locked, 2);

SEC("syscall")
int write_locked(struct args *args)
{
	for (__u32 k = 0; k < 64 && k < args->index; k++) {
		__u64 n = args->n + k;
		struct locked *r = mapring_reserve(&locked_ring);

		if (r) {
			FILL_WORDS(r, n, 35);
			mapring_commit(&locked_ring, r);
			args->done++;
		}
		r = mapring_cell_begin(&locked_cells, 1);
		if (r) {
			FILL_WORDS(r, n, 35);
			mapring_cell_end(r);
		}
	}
	return 0;
}

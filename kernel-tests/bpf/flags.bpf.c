// SPDX-License-Identifier: MIT OR Apache-2.0
/* Values that the kernel maps for nobody; and a program that walks its own arrays. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

/* By the names that the kernel knows them by, far enough back in the value for the preamble. */
struct bpf_spin_lock {
	__u32 val;
};

struct bpf_timer {
	__u64 opaque[2];
} __attribute__((aligned(8)));

struct locked {
	__u64 words[15];
	__u64 spare;
	struct bpf_spin_lock lock;
	__u32 rest;
};

struct timed {
	__u64 words[15];
	struct bpf_timer timer;
	__u64 rest;
};

MAPRING_CELLS(locked_cells, struct locked, 2);
MAPRING_CELLS(timed_cells, struct timed, 2);

/* Walks. */
struct pair {
	__u64 a, b;
};

MAPRING_CELLS(pairs, struct pair, 16);
MAPRING_COUNTERS(hits, 8);

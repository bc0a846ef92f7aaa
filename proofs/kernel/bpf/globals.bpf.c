// SPDX-License-Identifier: MIT OR Apache-2.0
/* Global variables of every kind, in every section. */
#include <mapring/global.bpf.h>
#include <mapring/percpu.bpf.h>
#include <mapring/ring.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

struct pair {
	__u32 first, second;
};

struct nested {
	__u64 ns;
	union {
		__u32 pid;
		__u32 thread;
	};
	__u16 port;
	char comm[6];
	struct pair pair;
};

struct large {
	__u32 words[14];
};

struct wide {
	__u64 words[512];
};

enum mode { OFF, ON };

/* .bss, .data, .rodata and custom sections. */
__u64 counted = 0;
__u32 small_left = 0, small = 0, small_right = 0;
__u8 bytes_left = 0, byte = 0, bytes_right = 0;
struct large torn = {};
MAPRING_GLOBAL_CELL(cell, struct large);
MAPRING_GLOBAL_LATCH(latch, struct large);
MAPRING_GLOBAL_CELL(wide_cell, struct wide);
MAPRING_GLOBAL_LATCH(wide_latch, struct wide);

__s64 threshold = 7;
enum mode mode = ON;
struct pair pair = { 3, 4 };
double unused = 0.5;

const volatile __u32 limit = 42;

__u64 hot SEC(".data.hot") = 5;

/* For comparing records with Rust's. */
MAPRING_RING(ring, struct nested, 8);
MAPRING_CELLS(cells, struct pair, 2);
MAPRING_PERCPU_CELLS(percpu, struct pair, 2);

SEC("syscall")
int run(struct args *args)
{
	struct large now;
	struct large *r;

	__sync_fetch_and_add(&counted, 1);
	small_left++;
	small_right++;
	bytes_left++;
	bytes_right++;
	hot += limit;
	/* The last value from userspace. */
	args->op = small;
	args->index = byte;
	if (mapring_latch_read(&latch, &now))
		return 0;
	args->n = now.words[0];
	args->done = 1;
	for (__u32 i = 0; i < 14; i++)
		if (now.words[i] != now.words[0] + i && latch.seq)
			args->done = 0;
	r = mapring_cell_begin(&cell);
	if (!r)
		return 0;
	FILL_WORDS(r, counted, 14);
	mapring_cell_end(r);
	return 0;
}

/* Writes the cell `n` times (1000 at most), and adds to the variables next to userspace's. */
SEC("syscall")
int stream(struct args *args)
{
	for (__u32 k = 0; k < 1000 && k < args->n; k++) {
		struct large *r = mapring_cell_begin(&cell);

		if (r) {
			FILL_WORDS(r, cell.seq / 2, 14);
			mapring_cell_end(r);
		}
		small_left++;
		small_right++;
		bytes_left++;
		bytes_right++;
	}
	return 0;
}

SEC("syscall")
int types(struct args *args)
{
	struct nested *r = mapring_reserve(&ring);
	struct pair *p = mapring_cell_begin(&cells, 0);

	if (p) {
		*p = pair;
		mapring_cell_end(p);
	}
	if (!r)
		return 0;
	r->ns = args->n;
	r->pid = threshold + mode;
	r->port = 9;
	r->pair = pair;
	__builtin_memset(r->comm, 'c', sizeof(r->comm));
	mapring_commit(&ring, r);
	args->done = torn.words[0] + *(volatile __u64 *)&unused;
	return 0;
}

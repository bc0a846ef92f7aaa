// SPDX-License-Identifier: MIT OR Apache-2.0
/* Values that the kernel never maps; and a program that walks its own arrays. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

/* With the kernel's names, and far enough into the value to leave room for the preamble. */
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

struct walked {
	__u64 sum, seen;
};

/* Counts whole values: the sequence is the same before and after, and even. */
static long walk_cell(void *map __attribute__((unused)), const __u32 *key, struct mapring_cell__pairs *cell,
		      struct walked *walked)
{
	__u64 seq, sum;

	if (*key < MAPRING__FIRST(sizeof(*cell)))
		return 0; /* the preamble */
	seq = mapring__load(&cell->seq);
	mapring__barrier();
	sum = cell->record.a * 1000 + cell->record.b;
	mapring__barrier();
	if (!(seq & 1) && mapring__load(&cell->seq) == seq) {
		walked->sum += sum;
		walked->seen++;
	}
	return 0;
}

static long walk_bank(void *map __attribute__((unused)), const __u32 *key, struct mapring_counters__hits *bank,
		      struct walked *walked)
{
	if (*key < MAPRING__FIRST(sizeof(*bank)))
		return 0;
	for (int i = 0; i < 8; i++)
		walked->sum += mapring__load(&bank->words[i]);
	walked->seen++;
	return 0;
}

/* Walks the cells, or with `op` 1 the banks. Returns the sum and the number of values in `n` and `done`. */
SEC("syscall")
int walk(struct args *args)
{
	struct walked walked = {};
	long steps;

	if (args->op) {
		steps = bpf_for_each_map_elem(&hits, walk_bank, &walked, 0);
		/* Otherwise clang merges both calls, and old verifiers require one map for each. */
		asm volatile("%0 += 0" : "+r"(steps));
	} else {
		steps = bpf_for_each_map_elem(&pairs, walk_cell, &walked, 0);
	}
	args->index = steps;
	args->n = walked.sum;
	args->done = walked.seen;
	return 0;
}

SEC("syscall")
int count(struct args *args)
{
	mapring_counter_add(&hits, args->index, args->n);
	return 0;
}

/* Writes a whole element, as userspace does; deletes it; reads the element again. */
SEC("syscall")
int put_and_delete(struct args *args)
{
	__u32 key = args->index;
	struct mapring_cell__pairs cell = { .seq = 2, .record = { .a = args->n, .b = args->n + 1 } };
	__u64 *there;

	args->op = bpf_map_update_elem(&pairs, &key, &cell, 0);
	args->done = bpf_map_delete_elem(&pairs, &key);
	there = bpf_map_lookup_elem(&pairs, &key);
	args->n = there ? there[1] : 0;
	return 0;
}

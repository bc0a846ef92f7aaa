// SPDX-License-Identifier: MIT OR Apache-2.0
/* Every kind in many shapes. Tests run these programs by hand, and each call does one step. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/ring.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

enum op {
	FILL,    /* reserve or begin, write each word, commit or end */
	COPY,    /* output or set */
	DISCARD, /* reserve, write, discard */
	ABANDON, /* reserve or begin, write half, and never end it */
	UPDATE,  /* begin, add to each word, end */
};

#define RECORD(size)                    \
	struct rec_##size {             \
		__u32 words[size / 4];  \
	};                              \
	MAPRING_CELLS(cells_##size, struct rec_##size, 3); \
	RING(size, 1)                   \
	RING(size, 2)                   \
	RING(size, 4)                   \
	RING(size, 64)                  \
	SEC("syscall")                  \
	int cell_##size(struct args *args) \
	{                               \
		__u32 count = size / 4; \
		struct rec_##size *r = mapring_cell_begin(&cells_##size, args->index); \
                                        \
		args->done = !!r;       \
		if (!r)                 \
			return 0;       \
		if (args->op == ABANDON) { \
			FILL_WORDS(r, args->n, (count + 1) / 2); \
			return 0;       \
		}                       \
		if (args->op == UPDATE) \
			for (__u32 i = 0; i < count; i++) \
				r->words[i] += args->n; \
		else                    \
			FILL_WORDS(r, args->n, count); \
		mapring_cell_end(r);    \
		return 0;               \
	}

#define RING(size, slots)                                                       \
	MAPRING_RING(ring_##size##_##slots, struct rec_##size, slots);          \
	SEC("syscall")                                                          \
	int write_##size##_##slots(struct args *args)                           \
	{                                                                       \
		__u32 count = size / 4;                                         \
		struct rec_##size *r = mapring_reserve(&ring_##size##_##slots); \
                                                                                \
		args->done = !!r;                                               \
		if (!r)                                                         \
			return 0;                                               \
		if (args->op == ABANDON) {                                      \
			FILL_WORDS(r, args->n, (count + 1) / 2);                \
			return 0;                                               \
		}                                                               \
		FILL_WORDS(r, args->n, count);                                  \
		if (args->op == DISCARD)                                        \
			mapring_discard(&ring_##size##_##slots, r);             \
		else                                                            \
			mapring_commit(&ring_##size##_##slots, r);              \
		return 0;                                                       \
	}

/* By copy from the stack, which only has room for small records. */
#define COPIES(size)                                                                   \
	SEC("syscall")                                                                 \
	int copy_##size(struct args *args)                                             \
	{                                                                              \
		struct rec_##size ready;                                               \
		long cell, ring;                                                       \
                                                                                       \
		FILL_WORDS(&ready, args->n, size / 4);                                 \
		cell = mapring_cell_set(&cells_##size, args->index, &ready);           \
		ring = mapring_output(&ring_##size##_4, &ready);                       \
		/* As documented: 0, or -1. Other values break the count. */           \
		args->done = (cell == 0 ? 1 : cell == -1 ? 0 : 100) +                  \
			     (ring == 0 ? 2 : ring == -1 ? 0 : 100);                   \
		return 0;                                                              \
	}

RECORD(4)
RECORD(8)
RECORD(12)
RECORD(56)
RECORD(64)
RECORD(100)
RECORD(4096)
COPIES(4)
COPIES(8)
COPIES(12)
COPIES(56)
COPIES(64)
COPIES(100)

MAPRING_CELL(one, struct rec_56);

/* Not a region: loaders leave it unchanged. */
struct {
	__uint(type, MAPRING__MAP_TYPE_ARRAY);
	__uint(max_entries, 3);
	__type(key, __u32);
	__type(value, struct rec_8);
} plain SEC(".maps");

SEC("syscall")
int cell_one(struct args *args)
{
	struct rec_56 *r = mapring_cell_begin(&one, 0);

	args->done = !!r;
	if (!r)
		return 0;
	FILL_WORDS(r, args->n, 14);
	mapring_cell_end(r);
	return 0;
}

#define COUNTERS(count)                                                       \
	MAPRING_COUNTERS(counters_##count, count);                            \
	SEC("syscall")                                                        \
	int count_##count(struct args *args)                                  \
	{                                                                     \
		mapring_counter_add(&counters_##count, args->index, args->n);         \
		return 0;                                                     \
	}                                                                     \
	SEC("syscall")                                                        \
	int inc_##count(struct args *args)                                    \
	{                                                                     \
		mapring_counter_inc(&counters_##count, args->index);                  \
		return 0;                                                     \
	}

COUNTERS(1)
COUNTERS(8)
COUNTERS(10)
COUNTERS(512)

/* A program interrupted halfway, as the interrupting program sees it: in a ring of two slots, ticket 0 is being written
 * while 1 is published. The slot of 2 is still taken, so the next record gets 3, and 2 is a hole. */
SEC("syscall")
int hole(struct args *args)
{
	struct rec_56 *slow = mapring_reserve(&ring_56_2), *r;

	if (!slow)
		return 0;
	FILL_WORDS(slow, 0, 14);
	for (__u32 n = 1; n <= 3; n += 2) {
		r = mapring_reserve(&ring_56_2);
		if (r) {
			FILL_WORDS(r, n, 14);
			mapring_commit(&ring_56_2, r);
			args->done++;
		}
	}
	mapring_commit(&ring_56_2, slow);
	return 0;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Shared by the producing programs: the record, and the timed loop. */
#ifndef PRODUCERS_H
#define PRODUCERS_H

#include <mapring/ring.bpf.h>

#define RECORDS 1024 /* per run */
#define SLOTS 4096
#define NOINLINE __attribute__((noinline))

char LICENSE[] SEC("license") = "GPL";

struct record {
	__u64 words[7];
};

/* A run's context. Input: the first record's number. Output: the nanoseconds of the loop. */
struct run {
	__u64 first;
	__u64 ns;
};

static __always_inline void fill(struct record *r, __u64 n)
{
	for (int i = 0; i < 7; i++)
		r->words[i] = n + i;
}

/* `produce(n)` produces record number n. */
#define PRODUCER(name, produce)                            \
	SEC("syscall") int name(struct run *run)           \
	{                                                  \
		__u64 first = run->first;                  \
		__u64 start = bpf_ktime_get_ns();          \
                                                           \
		for (__u32 i = 0; i < RECORDS; i++)        \
			produce(first + i);                \
		run->ns = bpf_ktime_get_ns() - start;      \
		return 0;                                  \
	}

MAPRING_RING(ours, struct record, SLOTS);

/* Returns whether a slot was free. */
static __always_inline int mapring_one(__u64 n)
{
	struct record *r = mapring_reserve(&ours);

	if (!r)
		return 0;
	fill(r, n);
	mapring_commit(&ours, r);
	return 1;
}

NOINLINE int mapring_call(__u64 n)
{
	mapring_one(n);
	return 0;
}

#endif

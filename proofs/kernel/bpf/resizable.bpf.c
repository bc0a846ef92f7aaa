// SPDX-License-Identifier: MIT OR Apache-2.0
/* A resizable ring, written by tasks that sleep, by system calls and by a clock's interrupts. */
#include <mapring/ring.bpf.h>

#include "numbered.h"

char LICENSE[] SEC("license") = "GPL";

#ifndef OPTIONS
#define OPTIONS
#endif

MAPRING_RING(numbers, struct numbered, 64 OPTIONS, RESIZABLE);

/* Elements so small that a shard's header takes several. */
struct small {
	__u64 number;
};
struct middle {
	__u64 number, copy;
};

MAPRING_RING(smalls, struct small, 8, RESIZABLE);
MAPRING_RING(middles, struct middle, 8, RESIZABLE);

/* One record into each, with the number ctx[1]. Returns in ctx[3] how many were dropped. */
SEC("syscall")
int push_small(__u64 *ctx)
{
	struct middle *middle = mapring_reserve(&middles);
	struct small *small = mapring_reserve(&smalls);

	ctx[3] = !middle + !small;
	if (small) {
		small->number = ctx[1];
		mapring_commit(&smalls, small);
	}
	if (middle) {
		middle->number = ctx[1];
		middle->copy = ~ctx[1];
		mapring_commit(&middles, middle);
	}
	return 0;
}

#include "numbered_programs.h"

/* A record that one run begins and none ends. */
SEC("syscall")
int abandon(__u64 *ctx)
{
	struct numbered *record = mapring_reserve(&numbers);

	ctx[3] = !record;
	return 0;
}

/* The record ctx[1] of the writer ctx[0]; the program sleeps until the page at ctx[2] is present. */
SEC("syscall")
int push_slowly(__u64 *ctx)
{
	struct numbered *record = mapring_reserve(&numbers);
	__u64 word;

	ctx[3] = !record;
	if (!record)
		return 0;
	(void)bpf_copy_from_user(&word, sizeof(word), (void *)ctx[2]);
	fill(record, ctx[0], ctx[1]);
	mapring_commit(&numbers, record);
	return 0;
}

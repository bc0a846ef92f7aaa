// SPDX-License-Identifier: MIT OR Apache-2.0
/* A program that sleeps inside mapring_reserve of a resizable ring: before it claims a slot of the ring that it found,
 * and between the claim and the second read of the gate. The claim is the shipped one, with code before and after
 * it. */
#include <mapring/detail/claim.bpf.h>

/* Missing pages, or 0: before the claim, and after it. */
__u64 page_before, page_after;

static __always_inline void sleep_for(__u64 page)
{
	__u64 word;

	if (page)
		(void)bpf_copy_from_user(&word, sizeof(word), (void *)page);
}

static __always_inline __u64 *sleeping_fast(struct mapring__ring ring, __u64 *head, __u32 base, const __u64 mark)
{
	__u64 *seq;

	sleep_for(page_before);
	seq = mapring__fast(ring, head, base, mark);
	sleep_for(page_after);
	return seq;
}

#define mapring__fast sleeping_fast
#include <mapring/ring.bpf.h>

#include "numbered.h"

char LICENSE[] SEC("license") = "GPL";

MAPRING_RING(numbers, struct numbered, 64, RESIZABLE);

/* The record ctx[1] of the writer ctx[0]. Returns in ctx[3] whether it was dropped. */
SEC("syscall")
int push_sleeping(__u64 *ctx)
{
	struct numbered *record = mapring_reserve(&numbers);

	ctx[3] = !record;
	if (!record)
		return 0;
	fill(record, ctx[0], ctx[1]);
	mapring_commit(&numbers, record);
	return 0;
}

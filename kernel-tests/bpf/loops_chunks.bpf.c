// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Loops of 512 in a loop without a bound, as the benchmarks' are, in a program that can only nest.
 * The verifier walks through several chunks before it has forgotten how many records there were,
 * and keeps in mind each branch that it has yet to take: 8192 at most.
 */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

#define CHUNK 512

struct xdp_md {
	__u32 data;
	__u32 data_end;
};

struct item {
	__u64 words[7];
};

struct progress {
	__u64 next;
	__u64 failed;
};

MAPRING_RING(many, struct item, 4096);

/* Whether there was a slot. */
static __always_inline int one(__u64 n)
{
	struct item *item = mapring_reserve(&many);

	if (!item)
		return 0;
	for (int i = 0; i < 7; i++)
		item->words[i] = n + i;
	mapring_commit(item);
	return 1;
}

static long chunk(__u32 number, struct progress *progress)
{
	__u64 next = progress->next, failed = 0;

	(void)number;
	for (__u32 i = 0; i < CHUNK; i++)
		failed += !one(next + i);
	progress->next = next + CHUNK;
	progress->failed += failed;
	return 0;
}

/* The packet says how many; returns for how many records there was no slot. */
SEC("xdp")
int chunks(struct xdp_md *ctx)
{
	__u32 *packet = (void *)(long)ctx->data;
	struct progress progress = {};

	if ((void *)(packet + 1) > (void *)(long)ctx->data_end)
		return -1;
	bpf_loop(*packet, chunk, &progress, 0);
	return progress.failed;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Compiled for a machine that keeps stores in order, and loaded on any machine. */
#ifndef __TARGET_ARCH_x86
#define __TARGET_ARCH_x86
#endif
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct item {
	__u64 words[7];
};

MAPRING_RING(ring, struct item, 64);

SEC("xdp")
int packet(void *ctx)
{
	struct item *item = mapring_reserve(&ring);

	(void)ctx;
	if (item) {
		for (int i = 0; i < 7; i++)
			item->words[i] = i;
		mapring_commit(&ring, item);
	}
	return 2; /* XDP_PASS */
}

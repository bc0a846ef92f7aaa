// SPDX-License-Identifier: MIT OR Apache-2.0
/* A loop of claims close to the maximum length. The verifier remembers up to 8192 jumps that it has yet to follow, and
 * a few of them belong to each record. With one or two more per record, users' loops would be too long. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

#ifndef TIMES
#define TIMES 1600
#define OPTIONS
#endif

struct item {
	__u64 words[7];
};

MAPRING_RING(many, struct item, 4096 OPTIONS);

SEC("xdp")
int longest(void *ctx __attribute__((unused)))
{
	for (__u32 n = 0; n < TIMES; n++) {
		struct item *item = mapring_reserve(&many);

		if (!item)
			continue;
		for (int i = 0; i < 7; i++)
			item->words[i] = n + i;
		mapring_commit(&many, item);
	}
	return TIMES;
}

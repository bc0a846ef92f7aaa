// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * A loop of claims nearly as long as can be. The verifier keeps in mind each jump that it has yet to follow, 8192
 * of them, and has a few of each record. One or two more of a record, and users' loops are too long.
 */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

#define TIMES 1600

struct item {
	__u64 words[7];
};

MAPRING_RING(many, struct item, 4096);

SEC("xdp")
int longest(void *ctx __attribute__((unused)))
{
	for (__u32 n = 0; n < TIMES; n++) {
		struct item *item = mapring_reserve(&many);

		if (!item)
			continue;
		for (int i = 0; i < 7; i++)
			item->words[i] = n + i;
		mapring_commit(item);
	}
	return TIMES;
}

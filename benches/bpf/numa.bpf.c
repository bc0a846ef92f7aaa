// SPDX-License-Identifier: MIT OR Apache-2.0
/* Produces into a ring with one map per CPU, in a map of maps. */
#include "producers.h"

#include <mapring/ring.bpf.h>

MAPRING_RING(shards, struct record, SLOTS, PER_CPU_MAPS);

static __always_inline int shards_one(__u64 n)
{
	struct record *r = mapring_reserve(&shards);

	if (!r)
		return 0;
	fill(r, n);
	mapring_commit(&shards, r);
	return 1;
}

NOINLINE int shards_call(__u64 n)
{
	shards_one(n);
	return 0;
}

PRODUCER(produce_numa, shards_one)
PRODUCER(produce_numa_call, shards_call)

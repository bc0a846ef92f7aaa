// SPDX-License-Identifier: MIT OR Apache-2.0
/* Produces into a resizable ring, through a map of maps. */
#include "producers.h"

#include <mapring/ring.bpf.h>

MAPRING_RING(moving, struct record, SLOTS, RESIZABLE);

NOINLINE int moving_call(__u64 n)
{
	struct record *r = mapring_reserve(&moving);

	if (!r)
		return 0;
	fill(r, n);
	mapring_commit(&moving, r);
	return 1;
}

PRODUCER(produce_resizable_call, moving_call)

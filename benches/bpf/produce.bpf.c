// SPDX-License-Identifier: MIT OR Apache-2.0
/* Produces and consumes: mapring's ring and the BPF ring buffer. */
#include "ringbuf.h"

NOINLINE int ringbuf_call(__u64 n)
{
	ringbuf_one(n);
	return 0;
}

/* The loop alone, with as much arithmetic as a record has. */
static __always_inline void nothing(__u64 n)
{
	asm volatile("" : : "r"(n));
}

PRODUCER(produce_mapring, mapring_one)
PRODUCER(produce_mapring_call, mapring_call)
PRODUCER(produce_ringbuf, ringbuf_one)
PRODUCER(produce_ringbuf_call, ringbuf_call)
PRODUCER(produce_nothing, nothing)

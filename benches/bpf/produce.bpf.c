// SPDX-License-Identifier: MIT OR Apache-2.0
/* Producing and consuming: mapring's ring beside the BPF ring buffer. */
#include "producers.h"

#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_RB_NO_WAKEUP 1

/* As many bytes as one of our shards: RECORDS * (8 + 56) fit twice. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SLOTS * 64);
} ringbuf SEC(".maps");

static __always_inline void ringbuf_one(__u64 n)
{
	struct record *r = bpf_ringbuf_reserve(&ringbuf, sizeof(*r), 0);

	if (r) {
		fill(r, n);
		bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	}
}

NOINLINE int ringbuf_call(__u64 n)
{
	ringbuf_one(n);
	return 0;
}

/* The loop itself, with as much arithmetic as a record has. */
static __always_inline void nothing(__u64 n)
{
	asm volatile("" : : "r"(n));
}

PRODUCER(produce_mapring, mapring_one)
PRODUCER(produce_mapring_call, mapring_call)
PRODUCER(produce_ringbuf, ringbuf_one)
PRODUCER(produce_ringbuf_call, ringbuf_call)
PRODUCER(produce_nothing, nothing)

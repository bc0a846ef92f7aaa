/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The BPF ring buffer, for records of `producers.h`. */
#ifndef RINGBUF_H
#define RINGBUF_H

#include "producers.h"

#define BPF_MAP_TYPE_RINGBUF 27
#define BPF_RB_NO_WAKEUP 1

/* As many bytes as one of our shards. The loader gives more to programs that run on all CPUs at once. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SLOTS * 64);
} ringbuf SEC(".maps");

/* Returns whether the buffer had room. */
static __always_inline int ringbuf_with(__u64 n, __u64 flags)
{
	struct record *r = bpf_ringbuf_reserve(&ringbuf, sizeof(*r), 0);

	if (!r)
		return 0;
	fill(r, n);
	bpf_ringbuf_submit(r, flags);
	return 1;
}

static __always_inline int ringbuf_one(__u64 n)
{
	return ringbuf_with(n, BPF_RB_NO_WAKEUP);
}

#endif

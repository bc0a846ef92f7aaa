// SPDX-License-Identifier: MIT OR Apache-2.0
/* Stamped records of two CPUs: mapring's ring, and a BPF ring buffer for each CPU. */
#include "ringbuf.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, SLOTS * 64);
} ringbuf_1 SEC(".maps");

/* The stamps of two CPUs interleave as if records came at random times. `n` is the number times 2, plus the CPU. */
static __always_inline __u64 stamp(__u64 n)
{
	return n / 2 * 16 + (n * 0x9e3779b97f4a7c15ULL >> 60);
}

static __always_inline void fill_stamped(struct record *r, __u64 n)
{
	fill(r, n);
	r->words[0] = stamp(n);
}

static __always_inline void mapring_stamped(__u64 n)
{
	struct record *r = mapring_reserve(&ours);

	if (!r)
		return;
	fill_stamped(r, n);
	mapring_commit(&ours, r);
}

static __always_inline void ringbuf_stamped(__u64 n)
{
	struct record *r = n & 1 ? bpf_ringbuf_reserve(&ringbuf_1, sizeof(*r), 0) :
				   bpf_ringbuf_reserve(&ringbuf, sizeof(*r), 0);

	if (!r)
		return;
	fill_stamped(r, n);
	bpf_ringbuf_submit(r, BPF_RB_NO_WAKEUP);
}

/* Every other number from `first` on. */
#define STAMPED(name, produce)                             \
	SEC("syscall") int name(struct run *run)           \
	{                                                  \
		__u64 first = run->first;                  \
                                                           \
		for (__u32 i = 0; i < RECORDS; i++)        \
			produce(first + i * 2);            \
		return 0;                                  \
	}

STAMPED(merge_mapring, mapring_stamped)
STAMPED(merge_ringbuf, ringbuf_stamped)

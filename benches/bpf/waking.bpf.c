// SPDX-License-Identifier: MIT OR Apache-2.0
/* Records that wake a sleeping reader, in bursts; and the cost of a ring that could wake one. */
#include <mapring/ring.bpf.h>

#include "ringbuf.h"

#define BPF_RB_FORCE_WAKEUP 2
#define BPF_RB_AVAIL_DATA 0
#define BURST 64
#define WATERMARK (BURST / 2 * 64) /* bytes */

struct woken {
	__u64 words[7];
};

MAPRING_RING(waking, struct woken, SLOTS, WAKEABLE);

static __always_inline int wakeable_one(__u64 n)
{
	struct woken *r = mapring_reserve(&waking);

	if (!r)
		return 0;
	fill((struct record *)r, n);
	mapring_commit(&waking, r);
	return 1;
}

PRODUCER(produce_plain, mapring_one)
PRODUCER(produce_wakeable, wakeable_one)

/* As wprof wakes: once enough is unread. */
static __always_inline int ringbuf_watermark(__u64 n)
{
	__u64 unread = bpf_ringbuf_query(&ringbuf, BPF_RB_AVAIL_DATA);

	return ringbuf_with(n, unread >= WATERMARK ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
}

static __always_inline int ringbuf_default(__u64 n)
{
	return ringbuf_with(n, 0);
}

/* `produce(n)` returns whether there was room. */
#define BURSTS(name, produce)                                   \
	SEC("syscall") int name(struct run *run)                \
	{                                                       \
		__u64 first = run->first;                       \
		__u64 start = bpf_ktime_get_ns();               \
		int failed = 0;                                 \
                                                                \
		for (__u32 i = 0; i < BURST; i++)               \
			failed |= !produce(first + i);          \
		run->ns = bpf_ktime_get_ns() - start;           \
		return failed;                                  \
	}

BURSTS(burst_wakeable, wakeable_one)
BURSTS(burst_plain, mapring_one)
BURSTS(burst_default, ringbuf_default)
BURSTS(burst_watermark, ringbuf_watermark)

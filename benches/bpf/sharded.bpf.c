// SPDX-License-Identifier: MIT OR Apache-2.0
/* Produces on all CPUs at once: mapring's rings, one BPF ring buffer for all CPUs, and one for each CPU. */
#include <mapring/ring.bpf.h>

#include "stream.h"

#define BPF_MAP_TYPE_ARRAY_OF_MAPS 12
#define BPF_RB_FORCE_WAKEUP 2
#define BPF_RB_AVAIL_DATA 0
#define BYTES (SLOTS * 64)    /* of a CPU's buffer: as many as one of our shards */
#define WATERMARK (BYTES / 4) /* as in wprof, for buffers of less than 8 MB */

/* As `struct record`. */
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

struct ringbuf_of_cpu {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, BYTES);
};

/* The loader sets the number of CPUs, and adds their buffers. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 1);
	__type(key, __u32);
	__array(values, struct ringbuf_of_cpu);
} ringbufs SEC(".maps");

/* As wprof does it. */
static __always_inline int sharded_one(__u64 n)
{
	__u32 cpu = bpf_get_smp_processor_id();
	void *mine = bpf_map_lookup_elem(&ringbufs, &cpu);
	struct record *r;
	__u64 unread;

	if (!mine)
		return 0;
	unread = bpf_ringbuf_query(mine, BPF_RB_AVAIL_DATA);
	r = bpf_ringbuf_reserve(mine, sizeof(*r), 0);
	if (!r)
		return 0;
	fill(r, n);
	bpf_ringbuf_submit(r, unread >= WATERMARK ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP);
	return 1;
}

CHUNKS(wakeable_chunk, wakeable_one)
CHUNKS(sharded_chunk, sharded_one)

STREAM(all_mapring, mapring_chunk)
STREAM(all_wakeable, wakeable_chunk)
STREAM(all_one_ringbuf, ringbuf_chunk)
STREAM(all_ringbufs, sharded_chunk)

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Produces for many laps of a ring, and any program may preempt another. */
#include <mapring/ring.bpf.h>
#include "stream.h"

/* As `struct record`. */
struct kept_record {
	__u64 words[7];
};

MAPRING_RING(kept, struct kept_record, SLOTS, KEEP_OLDEST);

static __always_inline int kept_one(__u64 n)
{
	struct kept_record *r = mapring_reserve(&kept);

	if (!r)
		return 0;
	fill((struct record *)r, n);
	mapring_commit(&kept, r);
	return 1;
}

CHUNKS(kept_chunk, kept_one)

STREAM(stream_mapring, mapring_chunk)
STREAM(stream_ringbuf, ringbuf_chunk)
STREAM(stream_kept, kept_chunk)

/* Records of 4 KiB. */
struct large {
	__u64 words[512];
};

#define LARGE 64 /* per run */

MAPRING_RING(larges, struct large, LARGE * 2);

SEC("syscall")
int produce_large(struct run *run)
{
	for (__u32 i = 0; i < LARGE; i++) {
		struct large *r = mapring_reserve(&larges);

		if (!r)
			return 1;
		for (__u32 w = 0; w < 512; w++)
			r->words[w] = run->first + i + w;
		mapring_commit(&larges, r);
	}
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Produces for many laps of a ring, and any program may preempt another. */
#include "stream.h"

#define STREAM(name, chunk)                     \
	SEC("syscall") int name(struct stream *run) \
	{                                       \
		RUN(run, chunk);                \
		return 0;                       \
	}

STREAM(stream_mapring, mapring_chunk)
STREAM(stream_ringbuf, ringbuf_chunk)

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
		mapring_commit(r);
	}
	return 0;
}

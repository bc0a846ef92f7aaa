/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Long runs of a producer that start at a given time, on one CPU or on all of them at once. */
#ifndef STREAM_H
#define STREAM_H

#include "ringbuf.h"

#define CHUNK 256

/* A run. Input: the first record's number, the number of chunks, and the start time. Output: the actual start and end,
 * and the number of records without room. */
struct stream {
	__u64 first;
	__u64 chunks;
	__u64 at;
	__u64 start;
	__u64 end;
	__u64 failed;
};

struct progress {
	__u64 next;
	__u64 failed;
};

static long is_time(__u32 i, __u64 *at)
{
	(void)i;
	return bpf_ktime_get_ns() >= *at;
}

/* Waits until `at`, 50 ms at most. */
static __always_inline void wait_until(__u64 at)
{
	if (at)
		bpf_loop(1 << 20, is_time, &at, 0);
}

/* `produce(n)` produces record number n, and returns whether the buffer had room. */
#define CHUNKS(name, produce)                                     \
	static __attribute__((unused)) long name(__u32 chunk, struct progress *progress) \
	{                                                         \
		__u64 next = progress->next;                      \
		__u64 failed = 0;                                 \
                                                                  \
		(void)chunk;                                      \
		for (__u32 i = 0; i < CHUNK; i++)                 \
			failed += !produce(next + i);             \
		progress->next = next + CHUNK;                    \
		progress->failed += failed;                       \
		return 0;                                         \
	}

#define RUN(run, chunk)                                           \
	do {                                                      \
		struct progress progress = { (run)->first, 0 };   \
                                                                  \
		wait_until((run)->at);                            \
		(run)->start = bpf_ktime_get_ns();                \
		bpf_loop((run)->chunks, chunk, &progress, 0);     \
		(run)->end = bpf_ktime_get_ns();                  \
		(run)->failed = progress.failed;                  \
	} while (0)

/* A program of this name that runs `chunk` again and again. */
#define STREAM(name, chunk)                     \
	SEC("syscall") int name(struct stream *run) \
	{                                       \
		RUN(run, chunk);                \
		return 0;                       \
	}

CHUNKS(mapring_chunk, mapring_one)
CHUNKS(ringbuf_chunk, ringbuf_one)

#endif

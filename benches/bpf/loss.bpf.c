// SPDX-License-Identifier: MIT OR Apache-2.0
/* Produces at a given rate, which may exceed the reader's. */
#include "stream.h"

#define BURST 16 /* records between two clock reads; one costs as much as some records */

/* A run. Input: the first record's number, the number of bursts, the nanoseconds from one to the next, and the start
 * time. Output: the actual start and end, and the number of records without room. */
struct paced {
	__u64 next;
	__u64 bursts;
	__u64 gap;
	__u64 at;
	__u64 start;
	__u64 end;
	__u64 failed;
};

#define PACED(name, produce)                                    \
	static long name##_burst(__u32 i, struct paced *run)    \
	{                                                       \
		__u64 next = run->next, failed = 0;             \
                                                                \
		(void)i;                                        \
		for (__u32 n = 0; n < BURST; n++)               \
			failed += !produce(next + n);           \
		run->next = next + BURST;                       \
		run->failed += failed;                          \
		if (run->gap)                                   \
			wait_until(run->at += run->gap);        \
		return 0;                                       \
	}                                                       \
                                                                \
	SEC("syscall") int name(struct paced *context)          \
	{                                                       \
		struct paced run = *context;                    \
                                                                \
		wait_until(run.at);                             \
		run.at = run.start = bpf_ktime_get_ns();        \
		bpf_loop(run.bursts, name##_burst, &run, 0);    \
		run.end = bpf_ktime_get_ns();                   \
		*context = run;                                 \
		return 0;                                       \
	}

PACED(paced_mapring, mapring_one)
PACED(paced_ringbuf, ringbuf_one)

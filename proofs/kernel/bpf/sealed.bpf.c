// SPDX-License-Identifier: MIT OR Apache-2.0
/* What programs may only read: a latch, written by system call meanwhile. */
#include <mapring/counters.bpf.h>
#include <mapring/latch.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

struct rec {
	__u32 words[14];
};

MAPRING_LATCHES(limits, struct rec, 3);
MAPRING_COUNTERS(reads, 3);

enum { WHOLE, TORN, BUSY };

/* One look at latch 1: its first word, and above it what it was. Verified once, without branches. */
__attribute__((noinline)) __u64 look_once(void)
{
	struct rec now;
	__u32 wrong = 0, step;

	if (mapring_latch_read(&limits, 1, &now))
		return (__u64)BUSY << 32;
	/* Word i is i more than the first one; all are 0 before the first write. */
	step = (now.words[0] | -now.words[0]) >> 31;
	asm volatile("" : "+r"(step));
	for (__u32 i = 0; i < 14; i++)
		wrong |= now.words[i] ^ (now.words[0] + i * step);
	wrong = (wrong | -wrong) >> 31;
	asm volatile("" : "+r"(wrong));
	return (__u64)wrong << 32 | now.words[0];
}

/* Looks at it so many times (16 at most: old verifiers lose patience soon); `done`: the first word that it saw at last. */
SEC("syscall")
int look(struct args *args)
{
	for (__u32 k = 0; k < 16 && k < args->n; k++) {
		__u64 seen = look_once();

		mapring_counter_inc(&reads, seen >> 32);
		args->done = (__u32)seen;
	}
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* A latch that programs may only read, while userspace writes it by system call. */
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

/* Reads latch 1 once. Returns its first word, and the result above it. Verified once, without branches. */
__attribute__((noinline)) __u64 look_once(void)
{
	struct rec now;
	__u32 wrong = 0, step;

	if (mapring_latch_read(&limits, 1, &now))
		return (__u64)BUSY << 32;
	/* Word i is the first word plus i; all are 0 before the first write. */
	step = (now.words[0] | -now.words[0]) >> 31;
	asm volatile("" : "+r"(step));
	for (__u32 i = 0; i < 14; i++)
		wrong |= now.words[i] ^ (now.words[0] + i * step);
	wrong = (wrong | -wrong) >> 31;
	asm volatile("" : "+r"(wrong));
	return (__u64)wrong << 32 | now.words[0];
}

/* Reads it this many times (16 at most, a limit of old verifiers); `done`: the last first word. */
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

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

/* Reads the latch 1 so many times (1000 at most); `done`: the first word that it saw at last. */
SEC("syscall")
int look(struct args *args)
{
	for (__u32 k = 0; k < 1000 && k < args->n; k++) {
		struct rec now;
		__u32 wrong = 0;

		if (mapring_latch_read(&limits, 1, &now)) {
			mapring_inc(&reads, BUSY);
			continue;
		}
		for (__u32 i = 0; i < 14; i++)
			wrong |= now.words[i] - now.words[0] - (now.words[0] ? i : 0);
		mapring_inc(&reads, wrong ? TORN : WHOLE);
		args->done = now.words[0];
	}
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* A cell that is written from time to time, or without pause. */
#include <mapring/cell.bpf.h>

#include "stream.h"

MAPRING_CELLS(cells, struct record, 1);

static __always_inline int set(__u64 n)
{
	struct record r;

	fill(&r, n);
	return mapring_cell_set(&cells, 0, &r) == 0;
}

CHUNKS(set_chunk, set)

SEC("syscall")
int set_always(struct stream *run)
{
	RUN(run, set_chunk);
	return 0;
}

/* A chunk here is one write, and the time until the next. */
static long set_one(__u32 i, struct stream *run)
{
	(void)i;
	run->failed += !set(run->first++);
	run->at += 1000;
	wait_until(run->at);
	return 0;
}

SEC("syscall")
int set_paced(struct stream *context)
{
	struct stream run = *context;

	wait_until(run.at);
	run.at = run.start = bpf_ktime_get_ns();
	bpf_loop(run.chunks, set_one, &run, 0);
	run.end = bpf_ktime_get_ns();
	*context = run;
	return 0;
}

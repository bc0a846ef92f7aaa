// SPDX-License-Identifier: MIT OR Apache-2.0
/* Writers without fetching atomics, for kernels that lack them: packets, which only a clock interrupts. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/latch.bpf.h>
#include <mapring/percpu.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

#define XDP_DROP 1
#define XDP_PASS 2

struct rec {
	__u32 words[14];
};

MAPRING_CELLS(cells, struct rec, 3);
MAPRING_PERCPU_CELL(own, struct rec);
MAPRING_COUNTERS(counters, 10);
MAPRING_LATCH(first, struct rec);

__u64 count; /* of packets */

/* One value and one count for each packet; XDP_DROP if userspace's latch can't be read. */
SEC("xdp")
int on_packet(void *ctx __attribute__((unused)))
{
	__u64 n = count++;
	struct rec now = {}, *r = mapring_cell_begin_single_writer(&cells, 1);

	if (r) {
		FILL_WORDS(r, n, 14);
		mapring_cell_end(r);
	}
	r = mapring_cell_begin_single_writer(&own, 0);
	if (r) {
		FILL_WORDS(r, n, 14);
		mapring_cell_end(r);
	}
	mapring_counter_add(&counters, n % 10, 3);
	return mapring_latch_read(&first, 0, &now) || now.words[0] != 7 ? XDP_DROP : XDP_PASS;
}

/* Loaded only if a test requests it: one of many writers of a cell, so it uses a fetching atomic. */
SEC("?xdp")
int on_shared(void *ctx __attribute__((unused)))
{
	struct rec *r = mapring_cell_begin(&cells, 2);

	if (r)
		mapring_cell_end(r);
	return XDP_PASS;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* One of each kind, written from a program that the test runs by hand. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct record {
	__u64 n;
	__u64 words[6];
};

MAPRING_RING(records, struct record, 64);
MAPRING_CELLS(cells, struct record, 3);
MAPRING_COUNTERS(counters, 10);

__u64 next;

SEC("syscall")
int write_all(void *ctx __attribute__((unused)))
{
	__u64 n = next++;
	struct record *r = mapring_reserve(&records);

	if (r) {
		r->n = n;
		for (int i = 0; i < 6; i++)
			r->words[i] = n * 3;
		mapring_commit(r);
	}
	r = mapring_cell_begin(&cells, n % 3);
	if (r) {
		r->n = n;
		for (int i = 0; i < 6; i++)
			r->words[i] = n * 3;
		mapring_cell_end(r);
	}
	mapring_add(&counters, n % 10, 2);
	return 0;
}

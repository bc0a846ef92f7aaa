/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The producers' hot paths, one function each, for `cargo xtask assembly`; proofs/kernel/tests/jit loads them. */
#include <mapring/ring.bpf.h>
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>

struct record {
	__u64 words[7];
};

MAPRING_RING(ring, struct record, 4096);
MAPRING_RING(numa, struct record, 4096, PER_CPU_MAPS);
MAPRING_CELL(cell, struct record);
MAPRING_COUNTERS(counters, 8);

SEC("syscall")
int ring_push(__u64 *ctx)
{
	struct record *record = mapring_reserve(&ring);

	if (!record)
		return -1;
	for (int i = 0; i < 7; i++)
		record->words[i] = ctx[i];
	mapring_commit(&ring, record);
	return 0;
}

/* The same by a scope. */
SEC("syscall")
int ring_record(__u64 *ctx)
{
	int done = -1;

	mapring_record(ring, record) {
		for (int i = 0; i < 7; i++)
			record->words[i] = ctx[i];
		done = 0;
	}
	return done;
}

SEC("syscall")
int numa_push(__u64 *ctx)
{
	struct record *record = mapring_reserve(&numa);

	if (!record)
		return -1;
	for (int i = 0; i < 7; i++)
		record->words[i] = ctx[i];
	mapring_commit(&numa, record);
	return 0;
}

SEC("syscall")
int cell_set(struct record *ctx)
{
	return mapring_cell_set(&cell, 0, ctx);
}

SEC("syscall")
int counter_add(__u64 *ctx)
{
	mapring_counter_add(&counters, 3, ctx[0]);
	return 0;
}

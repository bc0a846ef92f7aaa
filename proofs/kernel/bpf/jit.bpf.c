// SPDX-License-Identifier: MIT OR Apache-2.0
/* Producers whose machine code is checked (tests/jit), and deliberately wrong ones that the check must find. */
#include "../../assembly/bpf/producer.bpf.c"

char LICENSE[] SEC("license") = "GPL";

#define FILL(record, ctx)           \
	for (int i = 0; i < 7; i++) \
		(record)->words[i] = (ctx)[i]

/* Ends a record by an addition with an unused result, which orders nothing on arm64. */
SEC("syscall")
int wrong_addition(__u64 *ctx)
{
	struct record *record = mapring_reserve(&ring);

	if (!record)
		return -1;
	FILL(record, ctx);
	mapring__count((__u64 *)record - 1, 1);
	return 0;
}

/* Ends a record by a plain store, on any machine. */
SEC("syscall")
int wrong_store(__u64 *ctx)
{
	struct record *record = mapring_reserve(&ring);
	__u64 *seq = (__u64 *)record - 1;

	if (!record)
		return -1;
	FILL(record, ctx);
	asm volatile("" : : : "memory");
	mapring__store(seq, mapring__load(seq) + 1);
	return 0;
}

/* Claims a cell by a plain store. */
SEC("syscall")
int wrong_claim(__u64 *ctx)
{
	__u64 *seq = mapring__word(&cell, MAPRING__FIRST(sizeof(struct mapring_cell__cell)));

	if (!seq)
		return -1;
	mapring__store(seq, mapring__load(seq) + 1);
	FILL((struct record *)(seq + 1), ctx);
	mapring__publish(seq, mapring__load(seq) + 1);
	return 0;
}

/* Ends a record, and writes to it again. */
SEC("syscall")
int wrong_order(__u64 *ctx)
{
	struct record *record = mapring_reserve(&ring);

	if (!record)
		return -1;
	FILL(record, ctx);
	mapring_commit(&ring, record);
	*(volatile __u64 *)&record->words[6] = ctx[0];
	return 0;
}

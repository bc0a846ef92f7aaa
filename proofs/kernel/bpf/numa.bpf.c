// SPDX-License-Identifier: MIT OR Apache-2.0
/* A ring with one map per CPU, on that CPU's node. */
#include <mapring/ring.bpf.h>

#include "numbered.h"

char LICENSE[] SEC("license") = "GPL";

MAPRING_RING(numbers, struct numbered, 64, PER_CPU_MAPS);

#include "numbered_programs.h"

/* Packets are numbered on each CPU, and the CPU's number is the writer. */
#define CPUS 1024
__u64 packets[CPUS];

SEC("xdp")
int on_packet(void *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id() & (CPUS - 1); /* old verifiers would forget a check */
	struct numbered *record = mapring_reserve(&numbers);

	(void)ctx;
	if (record) {
		fill(record, cpu, packets[cpu]++);
		mapring_commit(&numbers, record);
	}
	return 2;
}

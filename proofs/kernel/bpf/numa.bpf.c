// SPDX-License-Identifier: MIT OR Apache-2.0
/* A ring with a map for each CPU, on the node of that. */
#include <mapring/numa.bpf.h>

#include "numbered.h"

char LICENSE[] SEC("license") = "GPL";

MAPRING_NUMA_RING(numbers, struct numbered, 64);

#include "numbered_programs.h"

/* A record that is begun by one run and ended by none. */
SEC("syscall")
int abandon(__u64 *ctx)
{
	ctx[3] = !mapring_reserve(&numbers);
	return 0;
}

/* Packets are numbered on each CPU, whose number is the writer. */
#define CPUS 1024
__u64 packets[CPUS];

SEC("xdp")
int on_packet(void *ctx)
{
	__u32 cpu = bpf_get_smp_processor_id() & (CPUS - 1); /* a check would be forgotten by old verifiers */
	struct numbered *record = mapring_reserve(&numbers);

	(void)ctx;
	if (record) {
		fill(record, cpu, packets[cpu]++);
		mapring_commit(record);
	}
	return 2;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* For the test of `mapring doctor`: a newer program for the same ring, with other records of the same size. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct version_event {
	__u32 cpu, pid;
	__u64 ns;
};

MAPRING_RING(versions, struct version_event, 64);

SEC("syscall")
int publish(__u64 *pid)
{
	struct version_event event = { .pid = *pid };

	mapring_output(&versions, &event);
	return 0;
}

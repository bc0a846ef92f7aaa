// SPDX-License-Identifier: MIT OR Apache-2.0
/* For the test of `mapring doctor`: the program that makes a pinned ring. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct version_event {
#ifdef NEW_VERSION
	__u32 cpu, pid;
	__u64 ns;
#else
	__u64 ns;
	__u32 pid, cpu;
#endif
};

MAPRING_RING(versions, struct version_event, 64);

SEC("syscall")
int publish(__u64 *pid)
{
	struct version_event event = { .pid = *pid };

	mapring_output(&versions, &event);
	return 0;
}

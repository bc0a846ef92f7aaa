// SPDX-License-Identifier: MIT OR Apache-2.0
/* A ring with a record for each process that starts. It wakes readers that sleep. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

#ifndef SLOTS
#define SLOTS 1024
#endif

struct start {
	__u64 ns;
	__u32 pid, parent;
};

MAPRING_RING(starts, struct start, SLOTS, WAKEABLE); /* slots per CPU */

/* The fields that are read. libbpf finds their offsets when it loads the program. */
struct task_struct {
	int pid, tgid;
} __attribute__((preserve_access_index));

SEC("tp_btf/sched_process_fork")
int on_fork(__u64 *ctx)
{
	struct task_struct *parent = (void *)ctx[0], *child = (void *)ctx[1];
	struct start start = { bpf_ktime_get_ns(), child->pid, parent->tgid };

	if (child->pid == child->tgid) /* not a thread */
		mapring_output(&starts, &start);
	return 0;
}

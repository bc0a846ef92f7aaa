// SPDX-License-Identifier: MIT OR Apache-2.0
/* A ring with a record for each context switch. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct switch_event {
	__u64 ns;
	__u32 prev, next;
	char comm[16];
};

MAPRING_RING(switches, struct switch_event, 4096); /* slots per CPU */

/* The only field that is read. libbpf finds its offset when it loads the program. */
struct task_struct {
	int pid;
} __attribute__((preserve_access_index));

SEC("tp_btf/sched_switch")
int on_switch(__u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1], *next = (void *)ctx[2];
	struct switch_event *e = mapring_reserve(&switches);

	if (!e)
		return 0; /* already counted */
	e->ns = bpf_ktime_get_ns();
	e->prev = prev->pid;
	e->next = next->pid;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	mapring_commit(&switches, e);
	return 0;
}

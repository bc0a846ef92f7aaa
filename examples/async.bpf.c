// SPDX-License-Identifier: MIT OR Apache-2.0
/* A ring with a record for each process that ends. It wakes readers that sleep. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct exit_event {
	__u64 ns; /* how long the process lived */
	__u32 pid;
	__u32 code;
	char comm[16];
};

MAPRING_RING(exits, struct exit_event, 1024, WAKEABLE); /* slots per CPU */

/* The fields that are read. libbpf finds their offsets when it loads the program. */
struct task_struct {
	int pid, tgid, exit_code;
	__u64 start_time;
} __attribute__((preserve_access_index));

SEC("tp_btf/sched_process_exit")
int on_exit(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	struct exit_event *e;

	if (task->pid != task->tgid)
		return 0; /* a thread of a process that goes on */
	e = mapring_reserve(&exits);
	if (!e)
		return 0; /* already counted */
	e->ns = bpf_ktime_get_ns() - task->start_time;
	e->pid = task->pid;
	e->code = task->exit_code;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	mapring_commit(&exits, e);
	return 0;
}

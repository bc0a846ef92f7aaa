// SPDX-License-Identifier: MIT OR Apache-2.0
/* A histogram of the microseconds that tasks wait for a CPU. */
#include <mapring/histogram.bpf.h>
#include <bpf/bpf_core_read.h>

#define MAP_TYPE_HASH 1

char LICENSE[] SEC("license") = "GPL";

MAPRING_HISTOGRAM(waits);

/* When each task began to wait. */
struct {
	__uint(type, MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, int);
	__type(value, __u64);
} since SEC(".maps");

/* The fields that are read. libbpf finds their offsets when it loads the program. */
struct task_struct {
	int pid;
	unsigned int __state;
} __attribute__((preserve_access_index));

struct task_struct___before_5_14 {
	long state;
} __attribute__((preserve_access_index));

/* A test counts the same values by another mechanism. */
#ifndef ALSO
#define ALSO(us)
#endif

static __always_inline void begins(struct task_struct *task)
{
	int pid = task->pid;
	__u64 now = bpf_ktime_get_ns();

	if (pid) /* not the idle task */
		bpf_map_update_elem(&since, &pid, &now, 0);
}

static __always_inline int is_runnable(struct task_struct *task)
{
	struct task_struct___before_5_14 *before = (void *)task;

	return bpf_core_field_exists(task->__state) ? !task->__state : !before->state;
}

SEC("tp_btf/sched_wakeup")
int on_wakeup(__u64 *ctx)
{
	begins((void *)ctx[0]);
	return 0;
}

SEC("tp_btf/sched_wakeup_new")
int on_wakeup_new(__u64 *ctx)
{
	begins((void *)ctx[0]);
	return 0;
}

SEC("tp_btf/sched_switch")
int on_switch(__u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1], *next = (void *)ctx[2];
	int pid = next->pid;
	__u64 *began, us;

	if (ctx[0] || is_runnable(prev)) /* preempted, or it gave up the CPU */
		begins(prev);
	began = bpf_map_lookup_elem(&since, &pid);
	if (!began)
		return 0;
	us = (bpf_ktime_get_ns() - *began) / 1000;
	bpf_map_delete_elem(&since, &pid);
	mapring_histogram_add(&waits, 0, us);
	ALSO(us);
	return 0;
}

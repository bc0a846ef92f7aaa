// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * For the test of `execs`: the same events as execs.bpf.c, and in the same programs those of the execsnoop of bcc's
 * libbpf-tools. It collects the arguments in a hash map when execve begins, and copies them out when execve ends.
 */
#include "execs.bpf.c"

#define MAP_TYPE_HASH 1
#define MAP_TYPE_RINGBUF 27
#define MAX_ARGS 60
#define LAST_ARG (ARG * MAX_ARGS - ARG)

struct peer_exec {
	__u32 pid, ppid, uid;
	__s32 ret;
	__u32 args_count, args_size;
	char comm[16];
	char args[ARG * MAX_ARGS];
};

static const struct peer_exec empty = {};

struct {
	__uint(type, MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, struct peer_exec);
} execs SEC(".maps");

struct {
	__uint(type, MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 23);
} peer SEC(".maps");

__u64 peer_dropped = 0;

SEC("tp_btf/sys_enter")
int peer_begin(__u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[0];
	__u64 id = bpf_get_current_pid_tgid();
	struct task_struct *task = bpf_get_current_task_btf();
	const char **args;
	struct peer_exec *event;
	__u32 pid = id;
	long ret;

	if (ctx[1] != EXECVE)
		return 0;
	args = (void *)ARGUMENT_1(regs);
	if (bpf_map_update_elem(&execs, &pid, &empty, 1 /* BPF_NOEXIST */))
		return 0;
	event = bpf_map_lookup_elem(&execs, &pid);
	if (!event)
		return 0;
	event->pid = id >> 32;
	event->uid = bpf_get_current_uid_gid();
	event->ppid = task->real_parent->tgid;
	ret = bpf_probe_read_user_str(event->args, ARG, (void *)ARGUMENT_0(regs));
	if (ret < 0)
		return 0;
	event->args_size = ret;
	event->args_count = 1;
	for (int i = 1; i < MAX_ARGS; i++) {
		const char *arg = 0;
		__u64 size = event->args_size;

		if (bpf_probe_read_user(&arg, sizeof(arg), &args[i]) || !arg)
			return 0;
		if (size > LAST_ARG)
			return 0;
		ret = bpf_probe_read_user_str(&event->args[size], ARG, arg);
		if (ret < 0)
			return 0;
		event->args_count++;
		event->args_size += ret;
	}
	return 0;
}

static __always_inline void peer_exec_ended(long ret)
{
	__u32 pid = bpf_get_current_pid_tgid();
	struct peer_exec *event = bpf_map_lookup_elem(&execs, &pid);
	__u64 len;

	if (!event)
		return;
	event->ret = ret;
	bpf_get_current_comm(event->comm, sizeof(event->comm));
	len = __builtin_offsetof(struct peer_exec, args) + event->args_size;
	if (len <= sizeof(*event) && bpf_ringbuf_output(&peer, event, len, 0))
		__sync_fetch_and_add(&peer_dropped, 1);
	bpf_map_delete_elem(&execs, &pid);
}

static __always_inline void peer_process_ended(struct task_struct *task)
{
	__u32 event[] = { task->tgid, task->real_parent->tgid, bpf_get_current_uid_gid(), task->exit_code };

	if (task->pid == task->tgid && bpf_ringbuf_output(&peer, event, sizeof(event), 0))
		__sync_fetch_and_add(&peer_dropped, 1);
}

SEC("tp_btf/sys_exit")
int both_sys_exit(__u64 *ctx)
{
	exec_ended((void *)ctx[0], ctx[1]);
	if (CALL((struct pt_regs *)ctx[0]) == EXECVE)
		peer_exec_ended(ctx[1]);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int both_process_exit(__u64 *ctx)
{
	process_ended((void *)ctx[0]);
	peer_process_ended((void *)ctx[0]);
	return 0;
}

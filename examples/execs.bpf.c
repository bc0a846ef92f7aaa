// SPDX-License-Identifier: MIT OR Apache-2.0
/* A record for each execve, with its arguments as a tail, and one for each process that ends. */
#include <mapring/tagged.bpf.h>
#include <mapring/ring.bpf.h>
#include "calls.h"

char LICENSE[] SEC("license") = "GPL";

#define LONGEST 4096 /* bytes of arguments */
#define ARGS 60      /* arguments of an execve that failed */
#define ARG 128      /* bytes of each */

struct exec {
	__u64 ns;
	__u32 pid, ppid, uid;
	__s32 ret;
	char comm[16];
};

struct exit {
	__u64 ns, age; /* age: nanoseconds since the process was created */
	__u32 pid, ppid, uid;
	__s32 code;    /* as from wait(2) */
};

struct event {
	__u64 tag;
	union {
		MAPRING_VARIANT(1, struct exec, exec);
		MAPRING_VARIANT(2, struct exit, exit);
	};
};

MAPRING_RING(events, struct event, 4096, WAKEABLE, TAILS(LONGEST, 1 << 20)); /* slots and bytes per CPU */

/* The only fields that are read. libbpf finds their offsets when it loads the program. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct mm_struct {
	unsigned long arg_start, arg_end;
};

struct task_struct {
	int pid, tgid, exit_code;
	__u64 start_time;
	struct task_struct *real_parent;
	struct mm_struct *mm;
};
#pragma clang attribute pop

#ifdef __TARGET_ARCH_arm64
#define EXECVE 221
#define EXECVEAT 281
#else
#define EXECVE 59
#define EXECVEAT 322
#endif

/* The arguments of the new program, each with its NUL: one copy. */
static __always_inline long new_arguments(struct task_struct *task, void *tail)
{
	__u64 start = task->mm->arg_start, len = task->mm->arg_end - start;

	if (len > LONGEST)
		len = LONGEST;
	return bpf_probe_read_user(tail, len, (void *)start) ?: (long)len;
}

/* The same of an execve that failed: its old program is still there, and its array of arguments. */
static __always_inline long old_arguments(const char **argv, char *tail)
{
	__u64 len = 0;

	for (int i = 0; i < ARGS && len <= LONGEST - ARG; i++) {
		const char *arg;
		long read;

		if (bpf_probe_read_user(&arg, sizeof(arg), &argv[i]) || !arg)
			break;
		read = bpf_probe_read_user_str(tail + len, ARG, arg);
		if (read < 0)
			break;
		len += read;
	}
	return len;
}

static __always_inline int exec_ended(struct pt_regs *regs, long ret)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct event *e;
	void *tail;

	if (CALL(regs) != EXECVE && CALL(regs) != EXECVEAT)
		return 0;
	e = mapring_reserve_variant_with_tail(&events, exec, &tail);
	if (!e)
		return 0; /* already counted */
	e->exec.ns = bpf_ktime_get_ns();
	e->exec.pid = task->tgid;
	e->exec.ppid = task->real_parent->tgid;
	e->exec.uid = bpf_get_current_uid_gid();
	e->exec.ret = ret;
	bpf_get_current_comm(e->exec.comm, sizeof(e->exec.comm));
	if (ret == 0)
		ret = new_arguments(task, tail);
	else if (CALL(regs) == EXECVE)
		ret = old_arguments((void *)ARGUMENT_1(regs), tail);
	else
		ret = old_arguments((void *)ARGUMENT_2(regs), tail);
	mapring_commit_tail(&events, e, ret);
	return 0;
}

static __always_inline int process_ended(struct task_struct *task)
{
	struct event *e;
	void *tail;

	if (task->pid != task->tgid)
		return 0; /* another thread */
	e = mapring_reserve_variant_with_tail(&events, exit, &tail);
	if (!e)
		return 0; /* already counted */
	e->exit.ns = bpf_ktime_get_ns();
	e->exit.age = e->exit.ns - task->start_time;
	e->exit.pid = task->tgid;
	e->exit.ppid = task->real_parent->tgid;
	e->exit.uid = bpf_get_current_uid_gid();
	e->exit.code = task->exit_code;
	mapring_commit_tail(&events, e, 0);
	return 0;
}

SEC("tp_btf/sys_exit")
int on_sys_exit(__u64 *ctx)
{
	return exec_ended((void *)ctx[0], ctx[1]);
}

SEC("tp_btf/sched_process_exit")
int on_process_exit(__u64 *ctx)
{
	return process_ended((void *)ctx[0]);
}

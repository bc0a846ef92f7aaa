// SPDX-License-Identifier: MIT OR Apache-2.0
/* The flight recorder: a ring and a few programs for each group of events. The name of a program is the group, then the
 * event. build.rs compiles this file for each number of slots: a group is loaded from the object that fits. The records
 * are in cli/flight/src/record.rs, too. triggers.bpf.h stops the recording. */
#include <mapring/cell.bpf.h>
#include <mapring/ring.bpf.h>
#include <bpf/bpf_core_read.h>

#ifndef SLOTS
#define SLOTS 4096
#endif

char LICENSE[] SEC("license") = "GPL";

/* The upper bits of a word that also holds a smaller number. */
#define WAKING (1U << 31)    /* in sched.task: it is woken, and sched.state is a CPU */
#define PREEMPTED (1U << 30) /* in sched.task: the task before it can run */
#define NEW (1U << 29)	     /* in sched.task, with WAKING: for the first time */
#define THROTTLED (WAKING | PREEMPTED) /* in sched.task: the quota was used up, for the time in comm */
#define QUOTA_AT 22	     /* in sched.task, else: the number of the next task's quota, in 8 bits */
#define LAST 1		     /* in exec.other_tid */
#define EXIT (1U << 31)	     /* in irq.value */
#define SOFTIRQ (1U << 30)   /* in irq.value */
#define RECEIVED (1U << 31)  /* in net.ifindex */

struct sched {
	__u64 ns;
	__u32 pid, tid;
	__u32 task; /* the next one, or the one that is woken */
	__u16 state;
	__u8 prio, other_prio;
	__u64 comm[2];
};

struct irq {
	__u64 ns;
	__u32 pid, tid, value, unused;
};

struct syscalls {
	__u64 ns;
	__u32 pid, tid;
	__s32 nr;
	__u32 kind;
	__u64 args[3]; /* the first is the result of a RETURN */
};

/* Bits of syscalls.kind. */
#define IS_32BIT 1 /* nr is of the 32-bit ABI (i386, arm) */
#define RETURN 2

enum { EXEC, FORK, END, CRASH };
struct exec {
	__u64 ns;
	__u32 pid, tid, kind;
	/* The child of a FORK; the number that the thread had before an EXEC; the status of the process and LAST, if this END is its
	 * last one. */
	__u32 other_pid, other_tid;
	__s32 code;		    /* of an END; the signal of a CRASH; 1 if the file of an EXEC is cut */
	__u64 comm[2];		    /* of the child, or after an EXEC */
	char file[96];
};

enum { ISSUE, COMPLETE };
struct block {
	__u64 ns;
	__u32 pid, tid;
	__u64 request; /* its address, which tells it from others until it is over */
	__u64 sector;
	__u32 dev, bytes, kind;
	__u32 value; /* the flags of an ISSUE, the status of a COMPLETE */
};

struct net {
	__u64 ns;
	__u32 pid, tid, ifindex, bytes;
	__u64 net_ns;
};

struct faults {
	__u64 ns;
	__u32 pid, tid;
	__u64 address, ip;
};

MAPRING_RING(sched, struct sched, SLOTS);
MAPRING_RING(irq, struct irq, SLOTS);
MAPRING_RING(syscalls, struct syscalls, SLOTS);
MAPRING_RING(exec, struct exec, SLOTS);
MAPRING_RING(block, struct block, SLOTS);
MAPRING_RING(net, struct net, SLOTS);
MAPRING_RING(faults, struct faults, SLOTS);

/* Marks, and conditions of triggers that were met. */
struct marks {
	__u64 ns;
	__u32 pid, tid;
	__u32 kind, condition;
	__u64 value;
	__u32 of_pid, of_tid; /* the process that met the condition */
	__u64 text[11];	      /* of a mark; or the name of that process */
};

/* Few in number: they come by hand, and from each condition only the first ones. */
MAPRING_RING(marks, struct marks, 256);

#include "kernel.bpf.h"
#include "stop.bpf.h"
#include "triggers.bpf.h"
#include "quota.bpf.h"

/* Reserves a record of this ring, unless only triggers need the event, and takes the time. `e` may be NULL. */
#define RESERVE_OR_WATCH(ring)                                             \
	if (has_stopped())                                                 \
		return 0;                                                  \
	struct ring *e = triggers.only ? 0 : mapring_reserve(&ring);       \
	__u64 ns = bpf_ktime_get_ns();

static __always_inline int switched(__u64 *ctx, const int has_state)
{
	struct task_struct *prev = (void *)ctx[1], *next = (void *)ctx[2];
	__u32 preempted = ctx[0] & 1, state, quota;
	__u64 throttled = throttled_time(next);

	quota = throttled ? see_quota(next, throttled) : 0;
	RESERVE_OR_WATCH(sched)
	if (has_state)
		state = ctx[3];
	else if (bpf_core_field_exists(prev->__state))
		state = prev->__state;
	else
		state = ((struct task_struct___state *)prev)->state;
	if (e) {
		e->ns = ns;
		e->pid = prev->tgid;
		e->tid = prev->pid;
		e->task = next->pid | quota << QUOTA_AT | preempted * PREEMPTED;
		e->state = state | prev->exit_state;
		e->prio = prev->prio;
		e->other_prio = next->prio;
		copy_comm(e->comm, next);
		mapring_commit(&sched, e);
	}
	if (triggers.armed & WAITS) {
		begin_wait(prev, ns, preempted || !state ? RUNNABLE : is_blocked(state) ? BLOCKED : NO_WAIT);
		end_wait(next, ns, RUNNABLE, quota);
	}
	return 0;
}

SEC("tp_btf/sched_switch")
int sched_switch(__u64 *ctx)
{
	return switched(ctx, 1);
}

/* The same before 5.18, which passes no state. It may have changed since: a task that is woken at once seems to be
 * preempted. The loader loads one of the two. */
SEC("tp_btf/sched_switch")
int sched_old_switch(__u64 *ctx)
{
	return switched(ctx, 0);
}

static __always_inline int woken(struct task_struct *task, __u32 kind)
{
	__u32 cpu;

	if (bpf_core_field_exists(struct task_struct___cpu, cpu))
		cpu = ((struct task_struct___cpu *)task)->cpu;
	else
		cpu = task->thread_info.cpu;
	RESERVE_OR_WATCH(sched)
	if (e) {
		e->ns = ns;
		RUNNING(e)
		e->task = task->pid | kind;
		e->state = cpu;
		e->prio = task->prio;
		e->other_prio = 0;
		copy_comm(e->comm, task);
		mapring_commit(&sched, e);
	}
	if (triggers.armed & WAITS) {
		end_wait(task, ns, BLOCKED, 0);
		begin_wait(task, ns, RUNNABLE);
	}
	return 0;
}

/* Where the waker runs. sched_wakeup may fire later, on the CPU of the task, where another task runs. */
SEC("tp_btf/sched_waking")
int sched_waking(__u64 *ctx)
{
	return woken((void *)ctx[0], WAKING);
}

SEC("tp_btf/sched_wakeup_new")
int sched_new(__u64 *ctx)
{
	return woken((void *)ctx[0], WAKING | NEW);
}

static __always_inline int interrupt(__u32 value)
{
	RESERVE_OR_WATCH(irq)
	if (e) {
		e->ns = ns;
		RUNNING(e)
		e->value = value;
		e->unused = 0;
		mapring_commit(&irq, e);
	}
	if (triggers.armed & (value & SOFTIRQ ? BIT(SOFTIRQ_LONG) : BIT(IRQ_LONG)))
		interrupted(ns, value);
	return 0;
}

SEC("tp_btf/irq_handler_entry")
int irq_enter(__u64 *ctx)
{
	return interrupt(ctx[0] & ~(EXIT | SOFTIRQ));
}

SEC("tp_btf/irq_handler_exit")
int irq_exit(__u64 *ctx)
{
	return interrupt((ctx[0] & ~SOFTIRQ) | EXIT);
}

SEC("tp_btf/softirq_entry")
int irq_soft_enter(__u64 *ctx)
{
	return interrupt((ctx[0] & ~EXIT) | SOFTIRQ);
}

SEC("tp_btf/softirq_exit")
int irq_soft_exit(__u64 *ctx)
{
	return interrupt(ctx[0] | SOFTIRQ | EXIT);
}

/* Reserves a record of a system call. `int $0x80` makes a 32-bit call in a 64-bit process, too. */
#define RESERVE_CALL(returns)                                     \
	RESERVE_OR_WATCH(syscalls)                                \
	struct pt_regs *regs = (void *)ctx[0];                    \
	struct task_struct *task = bpf_get_current_task_btf();    \
	__u32 kind = (task->COMPAT) | (returns);                  \
	if (e) {                                                  \
		e->ns = ns;                                       \
		e->pid = task->tgid;                              \
		e->tid = task->pid;                               \
		e->kind = kind;                                   \
	}

SEC("tp_btf/sys_enter")
int syscalls_enter(__u64 *ctx)
{
	RESERVE_CALL(0)
	if (e) {
		e->nr = ctx[1];
		e->args[0] = kind & IS_32BIT ? regs->ARG0_32 : regs->ARG0;
		e->args[1] = kind & IS_32BIT ? regs->ARG1_32 : regs->ARG1;
		e->args[2] = regs->ARG2;
		mapring_commit(&syscalls, e);
	}
	if (triggers.armed & BIT(SYSCALL_LONG) && !(kind & IS_32BIT))
		begin_call(task, ns, ctx[1]);
	return 0;
}

SEC("tp_btf/sys_exit")
int syscalls_exit(__u64 *ctx)
{
	RESERVE_CALL(RETURN)
	if (e) {
		e->nr = regs->CALL;
		e->args[0] = ctx[1];
		e->args[1] = e->args[2] = 0;
		mapring_commit(&syscalls, e);
	}
	if (triggers.armed & BIT(SYSCALL_LONG) && !(kind & IS_32BIT))
		end_call(task, ns, regs->CALL, ctx[1]);
	return 0;
}

/* What is behind `file` in the record stays as it was: readers stop at its end. */
SEC("tp_btf/sched_process_exec")
int exec_exec(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];
	const char *file = ((struct linux_binprm *)ctx[2])->filename;
	char next = 0;
	long length;

	RESERVE(exec)
	e->kind = EXEC;
	e->other_pid = 0;
	e->other_tid = ctx[1];
	copy_comm(e->comm, task);
	length = bpf_probe_read_kernel_str(e->file, sizeof(e->file), file);
	if (length < 0)
		e->file[0] = 0;
	if (length == sizeof(e->file))
		bpf_probe_read_kernel(&next, 1, file + sizeof(e->file) - 1);
	e->code = next != 0;
	mapring_commit(&exec, e);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int exec_fork(__u64 *ctx)
{
	struct task_struct *child = (void *)ctx[1];

	RESERVE(exec)
	e->kind = FORK;
	e->other_pid = child->tgid;
	e->other_tid = child->pid;
	e->code = 0;
	copy_comm(e->comm, child);
	mapring_commit(&exec, e);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int exec_exit(__u64 *ctx)
{
	struct task_struct *task = (void *)ctx[0];

	struct signal_struct *process = task->signal;
	int code = task->exit_code, is_killed = process->flags & SIGNAL_GROUP_EXIT;

	RESERVE_OR_WATCH(exec)
	if (e) {
		e->ns = ns;
		RUNNING(e)
		e->kind = END;
		e->other_pid = is_killed ? process->group_exit_code : task->group_leader->exit_code;
		e->other_tid = process->live.counter == 0 ? LAST : 0;
		e->code = code;
		mapring_commit(&exec, e);
	}
	/* `exec_crash` has found that one, in the thread that it was. */
	if (triggers.armed & BIT(EXITS) && !(is_killed && dumps_core(code & 0x7f)))
		of_task(EXITS, ns, code & 0x7f, code & 0x7f, task);
	return 0;
}

/* A signal that dumps core ends the process, unless it is handled. The threads end when the core is written. */
SEC("tp_btf/signal_deliver")
int exec_crash(__u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct k_sigaction *action = (void *)ctx[2];
	int signal = ctx[0];

	if (!dumps_core(signal) || action->sa.sa_handler || task->signal->flags & SIGNAL_UNKILLABLE)
		return 0;
	RESERVE_OR_WATCH(exec)
	if (e) {
		e->ns = ns;
		RUNNING(e)
		e->kind = CRASH;
		e->other_pid = e->other_tid = 0;
		e->code = signal;
		copy_comm(e->comm, task);
		mapring_commit(&exec, e);
	}
	if (triggers.armed & BIT(EXITS))
		crashed(ns, signal, task);
	return 0;
}

static __always_inline int request(struct request *request, __u32 kind, __u32 bytes, __u32 value)
{
	struct gendisk *disk = request->q->disk;

	RESERVE(block)
	e->request = (__u64)request;
	e->sector = request->__sector;
	/* A request without a disk is a command to a device. Loads through NULL give 0. */
	e->dev = disk->major << 20 | disk->first_minor;
	e->bytes = bytes;
	e->kind = kind;
	e->value = value;
	mapring_commit(&block, e);
	return 0;
}

SEC("tp_btf/block_rq_issue")
int block_issue(__u64 *ctx)
{
	struct request *rq = (void *)ctx[0];

	return request(rq, ISSUE, rq->__data_len, rq->cmd_flags);
}

SEC("tp_btf/block_rq_complete")
int block_complete(__u64 *ctx)
{
	return request((void *)ctx[0], COMPLETE, ctx[2], ctx[1]);
}

/* The bytes of a packet as the interface counts them, with its link header. A received one has it before its data. The loopback
 * interface takes it off before it counts. */
static __always_inline __u32 bytes_of(struct sk_buff *skb, __u32 direction)
{
	struct net_device *dev = skb->dev;
	__u64 header = 0;

	if (dev->flags & IFF_LOOPBACK)
		return skb->len - (direction ? 0 : dev->hard_header_len);
	if (direction && skb->mac_header != 0xffff)
		header = (__u64)skb->data - (__u64)skb->head - skb->mac_header;
	return skb->len + (header < 256 ? header : 0);
}

static __always_inline int packet(struct sk_buff *skb, __u32 direction)
{
	struct net_device *dev = skb->dev;

	RESERVE(net)
	e->ifindex = dev->ifindex | direction;
	e->bytes = bytes_of(skb, direction);
	/* Without CONFIG_NET_NS there is only one. */
	e->net_ns = bpf_core_field_exists(dev->nd_net.net) ? dev->nd_net.net->ns.inum : 0;
	mapring_commit(&net, e);
	return 0;
}

SEC("tp_btf/net_dev_queue")
int net_send(__u64 *ctx)
{
	return packet((void *)ctx[0], 0);
}

SEC("tp_btf/netif_receive_skb")
int net_receive(__u64 *ctx)
{
	return packet((void *)ctx[0], RECEIVED);
}

SEC("tp_btf/page_fault_user")
int faults_user(__u64 *ctx)
{
	struct pt_regs *regs = (void *)ctx[1];

	RESERVE(faults)
	e->address = ctx[0];
	e->ip = regs->IP;
	mapring_commit(&faults, e);
	return 0;
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The fields of the kernel that are read. libbpf finds their offsets when it loads the programs. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct thread_info {
	unsigned int cpu, status;
	unsigned long flags;
};
struct cred {
	struct {
		__u32 val;
	} uid;
};
struct k_sigaction {
	struct {
		void *sa_handler; /* 0: the default */
	} sa;
};
/* Signals that dump core: QUIT, ILL, TRAP, ABRT, BUS, FPE, SEGV, XCPU, XFSZ, SYS. */
#define dumps_core(signal) ((signal) > 0 && (signal) < 32 && 1U << (signal) & 0x830009f8)
#define SIGNAL_GROUP_EXIT 4
#define SIGNAL_UNKILLABLE 0x40
struct signal_struct {
	struct {
		int counter;
	} live; /* threads that have not ended */
	unsigned int flags;
	int group_exit_code;
};
struct cfs_rq {
	__u64 throttled_clock_self_time;
};
/* Before 6.6, and before 5.18. */
struct cfs_rq___pelt {
	__u64 throttled_clock_pelt_time;
};
struct cfs_rq___task {
	__u64 throttled_clock_task_time;
};
struct sched_entity {
	struct cfs_rq *cfs_rq;
};
struct task_struct {
	struct thread_info thread_info;
	struct sched_entity se;
	const struct cred *cred;
	unsigned int __state;
	int exit_state, exit_code, prio, pid, tgid;
	__u64 start_time;
	struct task_struct *group_leader;
	struct signal_struct *signal;
	char comm[16];
};
/* Before 5.14. */
struct task_struct___state {
	long state;
};
/* Before 5.16. */
struct task_struct___cpu {
	unsigned int cpu;
};
struct linux_binprm {
	const char *filename;
};
struct gendisk {
	int major, first_minor;
};
struct request_queue {
	struct gendisk *disk;
};
struct request {
	struct request_queue *q;
	unsigned int cmd_flags, __data_len;
	__u64 __sector;
};
struct ns_common {
	unsigned int inum;
};
struct net___of_kernel {
	struct ns_common ns;
};
#define IFF_LOOPBACK 8
struct net_device {
	int ifindex;
	unsigned int flags;
	unsigned short hard_header_len;
	struct {
		struct net___of_kernel *net;
	} nd_net;
};
struct sk_buff {
	struct net_device *dev;
	unsigned int len;
	__u16 mac_header; /* where that begins, from head */
	unsigned char *head, *data;
};
#ifdef __TARGET_ARCH_arm64
struct pt_regs {
	__u64 regs[31], pc;
	int syscallno;
};
#define ARG0 regs[0]
#define ARG1 regs[1]
#define ARG2 regs[2]
#define ARG0_32 regs[0]
#define ARG1_32 regs[1]
#define CALL syscallno
#define RESTART 128 /* the number of restart_syscall */
#define IP pc
#define COMPAT thread_info.flags >> 22 & 1 /* TIF_32BIT */
#else
struct pt_regs {
	unsigned long bx, cx, dx, si, di, orig_ax, ip;
};
#define ARG0 di
#define ARG1 si
#define ARG2 dx
#define ARG0_32 bx
#define ARG1_32 cx
#define CALL orig_ax
#define RESTART 219 /* the number of restart_syscall */
#define IP ip
#define COMPAT thread_info.status >> 1 & 1 /* TS_COMPAT */
#endif

/* -ERESTARTSYS to -ERESTART_RESTARTBLOCK: a signal has interrupted the call, and no program sees that. */
#define IS_PUT_BACK(result) ((result) <= -512 && (result) >= -516)

#pragma clang attribute pop

/* How long the threads of the task's run queue have been throttled in all: that of its cgroup on its CPU. 0 if they never were, or
 * the kernel has no quotas. Kernels before 6.6 count by the PELT clock, which is slower where a CPU is. */
static __always_inline __u64 throttled_time(struct task_struct *task)
{
	struct cfs_rq *queue;
	struct cfs_rq___pelt *pelt;
	struct cfs_rq___task *old;

	if (!bpf_core_field_exists(task->se.cfs_rq))
		return 0;
	queue = task->se.cfs_rq;
	pelt = (void *)queue;
	old = (void *)queue;
	if (bpf_core_field_exists(queue->throttled_clock_self_time))
		return queue->throttled_clock_self_time;
	if (bpf_core_field_exists(pelt->throttled_clock_pelt_time))
		return pelt->throttled_clock_pelt_time;
	if (bpf_core_field_exists(old->throttled_clock_task_time))
		return old->throttled_clock_task_time;
	return 0;
}

/* The address of that run queue, as a number. */
static __always_inline __u64 queue_of(struct task_struct *task)
{
	__u64 queue = 0;

	bpf_probe_read_kernel(&queue, sizeof(queue), &task->se.cfs_rq);
	return queue;
}

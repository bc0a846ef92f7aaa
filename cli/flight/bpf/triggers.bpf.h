/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The conditions that stop the recording. The loader writes them as constants before the kernel verifies the programs, so the
 * kernel removes the code of those that are not armed. cli/flight/src/triggers.rs has the same in Rust. */

/* Kinds of triggers, and what can be done by hand. */
enum {
	NONE,
	RUNQUEUE_LONG,
	BLOCKED_LONG,
	SYSCALL_LONG,
	IRQ_LONG,
	SOFTIRQ_LONG,
	EXITS,
	OOM,
	HUNG,
	RCU_STALL,
	MACHINE_CHECK,
	MEMORY_ERROR,
	QUOTA_LONG,
	MARK = 32,
	HOLD,
	RESUME,
	OFFLINE,
};
#define BIT(kind) (1U << (kind))
#define WAITS (BIT(RUNQUEUE_LONG) | BIT(BLOCKED_LONG) | BIT(QUOTA_LONG))

#define ANY (-1)

struct condition {
	__u64 least; /* nanoseconds */
	__u64 comm[2], mask[2];
	__u32 kind;
	__s32 number; /* of the signal or the system call, or ANY */
	__u32 pid, uid; /* 0: any; uid is one more than the number of a user */
};

const volatile struct {
	__u64 after; /* nanoseconds that are recorded after a condition was met */
	__u32 armed; /* a bit for each kind */
	__u32 only;  /* the group is not recorded: its programs serve triggers only */
	struct condition conditions[CONDITIONS];
} triggers SEC(".rodata.triggers") = {};

/* A condition that was met, or what is done by hand. */
struct hit {
	__u64 ns, value;
	__u32 kind, condition, pid, tid;
	__u64 text[11]; /* a comm, or that of a mark */
};

/* Returns whether it is written. */
static __noinline int write_mark(struct hit *hit)
{
	struct marks *e = mapring_reserve(&marks);

	if (!e)
		return 0;
	e->ns = hit->ns;
	RUNNING(e)
	e->kind = hit->kind;
	e->condition = hit->condition;
	e->value = hit->value;
	e->of_pid = hit->pid;
	e->of_tid = hit->tid;
#pragma unroll
	for (int i = 0; i < 11; i++)
		e->text[i] = hit->text[i];
	mapring_commit(&marks, e);
	return 1;
}

/* Sets the end of the recording, unless it is set. Returns whether it did: then this is the cause. */
static __noinline int set_end(struct hit *hit, __u64 after)
{
	struct stop *s = mapring_cell_begin(&stop, 0);
	int is_first;

	if (!s)
		return 0; /* another one is setting it */
	is_first = !s->at;
	if (is_first) {
		s->ns = hit->ns;
		s->value = hit->value;
		s->kind = hit->kind;
		s->condition = hit->condition;
		s->cpu = bpf_get_smp_processor_id();
		s->pid = hit->pid;
		s->tid = hit->tid;
		s->comm[0] = hit->text[0];
		s->comm[1] = hit->text[1];
		mapring__store(&s->at, hit->ns + after);
	}
	mapring_cell_end(s);
	if (is_first) {
		void *rung = bpf_ringbuf_reserve(&bell, 8, 0);

		if (rung)
			bpf_ringbuf_discard(rung, 1ULL << 1); /* BPF_RB_FORCE_WAKEUP */
	}
	return is_first;
}

/* Of each condition, so many are events; others are only counted. */
#define EVENTS 16

static __noinline int met(struct hit *hit)
{
	struct stop *s = the_stop();
	__u32 at = hit->condition;
	int is_event;

	if (!s || at >= CONDITIONS)
		return 0;
	is_event = mapring__fetch_add(&s->met[at], 1) < EVENTS;
	if (!mapring__load(&s->at) && set_end(hit, triggers.after))
		is_event = 1;
	return is_event ? write_mark(hit) : 0;
}

/* Two loads instead of a call. */
static __always_inline void copy_comm(__u64 to[2], struct task_struct *task)
{
	__u64 *from = (__u64 *)task->comm;

	to[0] = from[0];
	to[1] = from[1];
}

static __always_inline int is_named(const volatile struct condition *c, __u64 comm[2])
{
	return (comm[0] & c->mask[0]) == c->comm[0] && (comm[1] & c->mask[1]) == c->comm[1];
}

/* Compares an event with the conditions of its kind. The comm counts only if there is a task: it is also that of the process if the
 * event is one of the whole process. */
static __always_inline void happened(const __u32 kind, __u64 ns, __u64 value, __s32 number, __u32 pid, __u32 tid,
				     struct task_struct *task, const int is_of_process)
{
#pragma unroll
	for (__u32 i = 0; i < CONDITIONS; i++) {
		const volatile struct condition *c = &triggers.conditions[i];
		__u64 comm[2] = {}, first[2] = {};

		if (c->kind != kind || value < c->least)
			continue;
		if ((c->number != ANY && c->number != number) || (c->pid && c->pid != pid))
			continue;
		if (c->uid && (!task || task->cred->uid.val != c->uid - 1))
			continue;
		if (task)
			copy_comm(comm, task);
		if (is_of_process)
			copy_comm(first, task->group_leader);
		if (is_named(c, comm) || (is_of_process && is_named(c, first))) {
			struct hit hit = { ns, value, kind, i, pid, tid, { comm[0], comm[1] } };

			met(&hit);
		}
	}
}

static __always_inline void of_task(const __u32 kind, __u64 ns, __u64 value, __s32 number, struct task_struct *task)
{
	happened(kind, ns, value, number, task->tgid, task->pid, task, 0);
}

static __always_inline void crashed(__u64 ns, int signal, struct task_struct *task)
{
	happened(EXITS, ns, signal, signal, task->tgid, task->pid, task, 1);
}

/* What threads wait for, and since when: a word for each thread, by the lower bits of its number. The word has the other bits,
 * so a thread that takes the word of another one hides a wait, and never makes one up. Only a group with such a trigger
 * has this table. */
#define THREADS (1U << 16)
__u64 since[THREADS] SEC(".bss.since");

/* The other bits of the number: 6. What: 13. Time in units of 64 ns: 45, which is 26 days. */
enum { NO_WAIT, RUNNABLE, BLOCKED, IN_CALL };
#define KIND 3
#define PUT_BACK 4 /* of a call: the kernel makes it again, or goes on with it by restart_syscall */
#define CALL_AT 3  /* where its number is */
#define UNIT 6
#define WHAT_AT 45
#define WHAT ((1U << 13) - 1)
#define NUMBER_AT 58
#define TIME ((1ULL << WHAT_AT) - 1)
/* A time that seems to be so little later, a second, is none: clocks of CPUs differ. */
#define LATER (1ULL << 24)

static __always_inline void begin_wait(struct task_struct *task, __u64 ns, __u64 what)
{
	__u32 tid = task->pid;

	mapring__store(&since[tid % THREADS],
		       (__u64)(tid / THREADS) << NUMBER_AT | what << WHAT_AT | (ns >> UNIT & TIME));
}

/* How long the thread waits by its word. */
static __always_inline __u64 time_of(__u64 word, __u64 ns)
{
	__u64 time = ((ns >> UNIT) - word) & TIME;

	return time < TIME - LATER ? time << UNIT : 0;
}

/* How long the thread waited for this, or 0. */
static __always_inline __u64 waited(__u32 tid, __u64 ns, __u64 what)
{
	__u64 *word = &since[tid % THREADS], begin = mapring__load(word);

	if (!tid || begin >> WHAT_AT != ((__u64)(tid / THREADS) << (NUMBER_AT - WHAT_AT) | what))
		return 0;
	mapring__store(word, 0); /* a later one has a begin of its own, or is not known */
	return time_of(begin, ns);
}

/* How long of this time, which is over, the quota of the task's cgroup was used up. In quota.bpf.h. */
static __u64 throttled_of(struct task_struct *task, __u64 ns, __u64 time);

static __always_inline void end_wait(struct task_struct *task, __u64 ns, const __u64 what, __u32 quota)
{
	__u64 time = waited(task->pid, ns, what), throttled;

	if (!time)
		return;
	if (what == RUNNABLE && triggers.armed & (BIT(RUNQUEUE_LONG) | BIT(QUOTA_LONG))) {
		throttled = quota ? throttled_of(task, ns, time) : 0;
		if (triggers.armed & BIT(QUOTA_LONG) && throttled)
			of_task(QUOTA_LONG, ns, throttled, ANY, task);
		if (triggers.armed & BIT(RUNQUEUE_LONG))
			of_task(RUNQUEUE_LONG, ns, time - throttled, ANY, task);
	}
	if (what == BLOCKED && triggers.armed & BIT(BLOCKED_LONG))
		of_task(BLOCKED_LONG, ns, time, ANY, task);
}

/* Whether a condition is about this system call. */
static __always_inline int is_watched(__s32 nr)
{
	int is = 0;

#pragma unroll
	for (int i = 0; i < CONDITIONS; i++)
		is |= triggers.conditions[i].kind == SYSCALL_LONG && triggers.conditions[i].number == nr;
	return is;
}

/* The call in which the thread is by this word: what of it, or 0. A word from before the thread was made is of an older one. */
static __always_inline __u32 call_in(struct task_struct *task, __u64 word, __u64 ns)
{
	__u32 tid = task->pid, what = word >> WHAT_AT & WHAT;

	if (word >> NUMBER_AT != tid / THREADS || (what & KIND) != IN_CALL)
		return 0;
	return ns - time_of(word, ns) >= task->start_time ? what : 0;
}

static __always_inline void begin_call(struct task_struct *task, __u64 ns, __s32 nr)
{
	__u64 *at = &since[(__u32)task->pid % THREADS], word = mapring__load(at);
	__u32 what = call_in(task, word, ns);

	if (what & PUT_BACK) {
		if (nr == RESTART || nr == (__s32)(what >> CALL_AT))
			return; /* it goes on */
		mapring__store(at, 0); /* a handler of signals has ended it */
	}
	if (is_watched(nr))
		begin_wait(task, ns, IN_CALL | (__u64)nr << CALL_AT);
}

static __always_inline void end_call(struct task_struct *task, __u64 ns, __s32 nr, long result)
{
	__u64 *at = &since[(__u32)task->pid % THREADS], word = mapring__load(at);
	__u32 what = call_in(task, word, ns);
	__s32 call = what >> CALL_AT;

	if (!what || (nr != call && nr != RESTART))
		return;
	if (IS_PUT_BACK(result)) {
		mapring__store(at, word | (__u64)PUT_BACK << WHAT_AT);
		return;
	}
	mapring__store(at, 0);
	of_task(SYSCALL_LONG, ns, time_of(word, ns), call, task);
}

/* TASK_UNINTERRUPTIBLE without TASK_NOLOAD: ps shows D. */
static __always_inline int is_blocked(__u32 state)
{
	return (state & 0x402) == 2;
}

/* The begin or the end of an interrupt. Each CPU has a word for interrupts, and one for softirqs, which they interrupt. */
static __always_inline void interrupted(__u64 ns, __u32 value)
{
	__u64 *begin = &since[(bpf_get_smp_processor_id() << 1 | !!(value & SOFTIRQ)) % THREADS], at;

	if (!(value & EXIT)) {
		mapring__store(begin, ns);
		return;
	}
	at = mapring__load(begin);
	mapring__store(begin, 0);
	if (!at || ns < at)
		return;
	if (value & SOFTIRQ)
		of_task(SOFTIRQ_LONG, ns, ns - at, ANY, bpf_get_current_task_btf());
	else
		of_task(IRQ_LONG, ns, ns - at, ANY, bpf_get_current_task_btf());
}

/* What the kernel reports by a tracepoint of its own. */
static __always_inline int reported(const __u32 kind, struct task_struct *task)
{
	if (!has_stopped())
		of_task(kind, bpf_ktime_get_ns(), 0, ANY, task);
	return 0;
}

SEC("tp_btf/mark_victim")
int marks_oom(__u64 *ctx)
{
	return reported(OOM, (void *)ctx[0]);
}

/* The same before 6.9, which passes a number only. The loader loads one of the two. */
SEC("tp_btf/mark_victim")
int marks_old_oom(__u64 *ctx)
{
	if (!has_stopped())
		happened(OOM, bpf_ktime_get_ns(), 0, ANY, ctx[0], ctx[0], 0, 0);
	return 0;
}

SEC("tp_btf/sched_process_hang")
int marks_hung(__u64 *ctx)
{
	return reported(HUNG, (void *)ctx[0]);
}

SEC("tp_btf/rcu_stall_warning")
int marks_rcu_stall(void)
{
	return reported(RCU_STALL, bpf_get_current_task_btf());
}

SEC("tp_btf/mce_record")
int marks_machine_check(void)
{
	return reported(MACHINE_CHECK, bpf_get_current_task_btf());
}

SEC("tp_btf/mc_event")
int marks_memory_error(void)
{
	return reported(MEMORY_ERROR, bpf_get_current_task_btf());
}

/* Its values differ from kernel to kernel. */
enum cpuhp_state { CPUHP_TEARDOWN_CPU = 1 };

/* A CPU goes offline, and its perf events end: they do not come back with it. */
SEC("tp_btf/cpuhp_enter")
int marks_offline(__u64 *ctx)
{
	int target = ctx[1], step = ctx[2];
	struct hit hit = { bpf_ktime_get_ns(), ctx[0], OFFLINE, 0, 0, 0, {} };

	if (step == (int)bpf_core_enum_value(enum cpuhp_state, CPUHP_TEARDOWN_CPU) && target < step && !has_stopped())
		write_mark(&hit);
	return 0;
}

/* What `flight mark`, `hold` and `resume` run. Userspace writes no map. Returns what control.rs knows. */
enum { DONE, NOTHING_TO_DO, BUSY };

SEC("raw_tp")
int marks_control(__u64 *ctx)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct hit hit = { bpf_ktime_get_ns(), 0, ctx[0], 0, task->tgid, task->pid, {} };
	struct stop *s = the_stop();
	__u64 at = s ? mapring__load(&s->at) : 0;

	if (hit.kind == RESUME ? !at : at && hit.ns >= at)
		return NOTHING_TO_DO;
	copy_comm(hit.text, task);
	/* A condition that was met stays the cause: then `hold` only shortens what follows. */
	if (hit.kind == RESUME || (hit.kind == HOLD && !set_end(&hit, 0))) {
		s = mapring_cell_begin(&stop, 0);
		if (!s)
			return BUSY;
#pragma unroll
		for (int i = 0; i < CONDITIONS && hit.kind == RESUME; i++)
			mapring__store(&s->met[i], 0);
		mapring__store(&s->at, hit.kind == RESUME ? 0 : hit.ns);
		mapring_cell_end(s);
	}
#pragma unroll
	for (int i = 0; i < 11; i++)
		hit.text[i] = ctx[i + 1];
	return write_mark(&hit) || hit.kind != MARK ? DONE : BUSY;
}

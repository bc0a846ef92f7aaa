// SPDX-License-Identifier: MIT OR Apache-2.0
/* The groups of the flight recorder that record stacks, as tails of their records: samples, long waits, contended locks.
 * build.rs compiles this file for each number of slots, as flight.bpf.c. cli/flight/src/record.rs has the same records in
 * Rust. */
#include <mapring/cell.bpf.h>
#include <mapring/ring.bpf.h>
#include <bpf/bpf_core_read.h>

#include "kernel.bpf.h"
#include "stop.bpf.h"

#ifndef SLOTS
#define SLOTS 4096
#endif

char LICENSE[] SEC("license") = "GPL";

/* The most frames of a stack: in the kernel, with 8 bytes each, and in userspace, as struct bpf_stack_build_id. The kernel
 * is asked for one more, which shows that a stack is cut. */
#define KERNEL 64
#define USER 126
#define KERNEL_FRAME 8
#define USER_FRAME 32
#define LONGEST ((KERNEL + 1) * KERNEL_FRAME + (USER + 1) * USER_FRAME)

/* The tail: frames of the kernel, then of userspace, the innermost first. Most stacks take a few hundred bytes. */
struct stack {
	__u16 kernel; /* bytes */
	__u16 is_cut;
	__u32 began; /* when the process did, in units of 2^20 nanoseconds: its number may be used again */
};
#define STACKS(ring) MAPRING_RING(ring, struct ring, SLOTS, TAILS(LONGEST, SLOTS * 512))

struct profile {
	__u64 ns;
	__u32 pid, tid;
	struct stack stack;
};
struct waits {
	__u64 ns;
	__u32 pid, tid;
	__u64 time;
	__u32 waker; /* its tid, with KNOWN */
	__u32 state; /* as it stopped, in 16 bits; RAN if it could run; WAS_THROTTLED */
	struct stack stack;
};
#define KNOWN (1U << 31)
#define RAN 0x100
#define WAS_THROTTLED (1U << 16) /* for most of the time, as the CPU quota of its cgroup was used up */

struct locks {
	__u64 ns;
	__u32 pid, tid;
	__u64 lock, time;
	__u32 flags, unused;
	struct stack stack;
};

STACKS(profile);
STACKS(waits);
STACKS(locks);

const volatile struct {
	__u64 waits, locks; /* nanoseconds: shorter ones are not recorded */
	__u32 deepest, unused; /* kernel.perf_event_max_stack: the kernel shows no more frames */
} limits SEC(".rodata.limits") = {};

/* Flags of the helper. */
#define OF_USER (1ULL << 8)
#define WITH_BUILD_ID (1ULL << 11)

/* The bytes of a tail that the helper has written: before other comparisons with its result, after which Linux 6.1 follows paths that
 * can't be, with bounds that can't be. */
static __always_inline long written(long result, long most)
{
	if (result < 0)
		result = 0;
	if (result > most)
		result = most;
	asm volatile("" : "+r"(result)); /* the verifier needs these bounds */
	return result;
}

static __always_inline int is_cut(long result, long most, long frame)
{
	return result > most || result >= (long)limits.deepest * frame;
}

/* Writes the stack of the running thread. Returns the bytes of the tail. */
static __always_inline long take_stack(void *ctx, char *tail, struct stack *stack)
{
	long kernel, user, result;

	result = bpf_get_stack(ctx, tail, (KERNEL + 1) * KERNEL_FRAME, 0);
	kernel = written(result, KERNEL * KERNEL_FRAME);
	stack->kernel = kernel;
	stack->is_cut = is_cut(result, KERNEL * KERNEL_FRAME, KERNEL_FRAME);
	result = bpf_get_stack(ctx, tail + kernel, (USER + 1) * USER_FRAME, OF_USER | WITH_BUILD_ID);
	user = written(result, USER * USER_FRAME);
	stack->began = ((struct task_struct *)bpf_get_current_task_btf())->group_leader->start_time >> 20;
	stack->is_cut |= is_cut(result, USER * USER_FRAME, USER_FRAME);
	return kernel + user;
}

/* Ends the record `e` with the stack of the running thread. */
#define COMMIT_STACK(ring)                                                                      \
	mapring_commit_tail(&ring, e, take_stack(ctx, mapring_tail(&ring, e), &e->stack));      \
	return 0;

/* The idle task is not sampled. */
SEC("perf_event")
int profile_sample(struct bpf_perf_event_data *ctx)
{
	if (!bpf_get_current_pid_tgid())
		return 0;
	RESERVE(profile)
	COMMIT_STACK(profile)
}

/* What is waited for, in an entry for each thread, by the lower bits of its number. Each word has the other bits, so a thread that
 * takes the entry of another one hides a wait, and never makes one up. */
#define ENTRIES (1U << 16)
#define NUMBER 42 /* the number of a thread has 22 bits */

/* The time in nanoseconds, in 58 bits, which are 9 years. One that seems to be a second later or less is none. */
#define REST 58
#define TIME ((1ULL << REST) - 1)
#define LATER (1ULL << 30)

static __always_inline __u64 begins(__u32 tid, __u64 ns)
{
	return (__u64)(tid / ENTRIES) << REST | (ns & TIME);
}

/* How long it took, by the word of `begins`; 0 if that is the word of another thread, or none. */
static __always_inline __u64 took(__u64 word, __u32 tid, __u64 ns)
{
	__u64 time = (ns - word) & TIME;

	return word && word >> REST == tid / ENTRIES && time < TIME - LATER ? time : 0;
}

struct away {
	__u64 since;
	__u64 by; /* the thread's number, its state in 16 bits, WOKEN, and the waker's number */
	__u64 throttled; /* see throttled_by() */
} away[ENTRIES] SEC(".bss.waits");
#define WOKEN (1ULL << 22)
#define STATE 23

/* How long the task's run queue has been throttled by now, in 52 bits, which are 52 days, and which one that is. 0: never. */
#define QUEUE ((1ULL << 12) - 1)
static __always_inline __u64 throttled_by(struct task_struct *task)
{
	__u64 time = throttled_time(task);

	return time ? time << 12 | (queue_of(task) >> 6 & QUEUE) : 0;
}

/* Whether it was so for most of this time, since `before`. */
static __always_inline int was_throttled(__u64 before, __u64 now, __u64 time)
{
	__u64 more = (now - before) >> 12;

	return now && (!before || !((before ^ now) & QUEUE)) && more <= time && more > time / 2;
}

SEC("tp_btf/sched_switch")
int waits_switch(__u64 *ctx)
{
	struct task_struct *prev = (void *)ctx[1];
	__u64 tid = (__u32)prev->pid, state;
	struct away *entry = &away[tid % ENTRIES];

	if (!tid)
		return 0;
	if (bpf_core_field_exists(prev->__state))
		state = prev->__state;
	else
		state = ((struct task_struct___state *)prev)->state;
	state = ctx[0] & 1 ? RAN : (state | prev->exit_state) & 0xffff;
	mapring__store(&entry->by, tid << NUMBER | state << STATE);
	mapring__store(&entry->throttled, throttled_by(prev));
	mapring__store(&entry->since, begins(tid, bpf_ktime_get_ns()));
	return 0;
}

SEC("tp_btf/sched_waking")
int waits_waking(__u64 *ctx)
{
	__u64 tid = (__u32)((struct task_struct *)ctx[0])->pid, *by = &away[tid % ENTRIES].by, word = mapring__load(by);

	if (word >> NUMBER == tid && !(word & WOKEN))
		mapring__store(by, word | WOKEN | (__u32)bpf_get_current_pid_tgid());
	return 0;
}

/* In the thread that came back. */
static __always_inline int came_back(void *ctx)
{
	__u64 ns = bpf_ktime_get_ns(), time, by, was;
	__u32 tid = bpf_get_current_pid_tgid();
	struct away *entry = &away[tid % ENTRIES];

	time = took(mapring__load(&entry->since), tid, ns);
	if (!tid || time < limits.waits)
		return 0;
	by = mapring__load(&entry->by);
	was = was_throttled(mapring__load(&entry->throttled), throttled_by(bpf_get_current_task_btf()), time);
	mapring__store(&entry->since, 0);
	RESERVE(waits)
	e->time = time;
	e->waker = by >> NUMBER == tid && by & WOKEN ? KNOWN | (by & (WOKEN - 1)) : 0;
	e->state = (by >> NUMBER == tid ? by >> STATE & 0xffff : 0) | was * WAS_THROTTLED;
	COMMIT_STACK(waits)
}

/* Since 6.15. */
SEC("tp_btf/sched_exit_tp")
int waits_end(__u64 *ctx)
{
	return ctx[0] & 1 ? came_back(ctx) : 0;
}

/* Before, where the kernel has no such event. The loader knows the name, which compilers change. */
SEC("kprobe")
int waits_old_end(void *ctx)
{
	return came_back(ctx);
}

/* The lock that a thread waits for: spinlocks can be waited for in an interrupt, while the thread waits for another one. The entry and the
 * lock have the lower bits of the thread's number. */
struct contended {
	__u64 since;
	__u64 lock; /* the flags in the upper bits, which are all ones in an address of the kernel */
} contended[ENTRIES] SEC(".bss.locks");
#define FLAGS 58

/* The idle tasks have no numbers: those of their CPUs, from the top. */
static __always_inline __u32 number(void)
{
	__u32 tid = bpf_get_current_pid_tgid();

	return tid ? tid : (1U << 22) - 1 - bpf_get_smp_processor_id();
}

static __always_inline struct contended *entry_of(__u32 number, __u64 lock)
{
	__u64 at = number ^ (__u32)(lock >> 3) * 0x9e3779b1U >> 16;

	asm volatile("" : "+r"(at)); /* else the mask is not the last operation, and Linux 6.1 has no bounds of a xor */
	return &contended[at % ENTRIES];
}

SEC("tp_btf/contention_begin")
int locks_begin(__u64 *ctx)
{
	__u32 tid = number();
	struct contended *entry = entry_of(tid, ctx[0]);

	mapring__store(&entry->lock, (ctx[0] & ~(63ULL << FLAGS)) | ctx[1] << FLAGS);
	mapring__store(&entry->since, begins(tid, bpf_ktime_get_ns()));
	return 0;
}

SEC("tp_btf/contention_end")
int locks_end(__u64 *ctx)
{
	__u32 tid = number();
	struct contended *entry = entry_of(tid, ctx[0]);
	__u64 lock = mapring__load(&entry->lock), time = took(mapring__load(&entry->since), tid, bpf_ktime_get_ns());

	if (time < limits.locks || (lock ^ ctx[0]) & ~(63ULL << FLAGS))
		return 0;
	mapring__store(&entry->since, 0);
	RESERVE(locks)
	e->lock = ctx[0];
	e->time = time;
	e->flags = lock >> FLAGS;
	e->unused = 0;
	COMMIT_STACK(locks)
}

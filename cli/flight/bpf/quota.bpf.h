/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For how long the kernel kept threads off a CPU because the CPU quota of their cgroup was used up (CFS bandwidth,
 * kernel/sched/fair.c). It adds that up in the run queue of each cgroup and CPU. cli/flight/src/report/quotas.rs reads it. */

/* An entry for each such run queue that was throttled, by its address. One that takes the entry of another one hides a time. */
#define QUOTAS 4096
#define LASTS 4

struct quota {
	__u64 of, time, count;
	struct {
		__u64 ns, took; /* when it was seen, and for how long */
	} last[LASTS];
} quotas[QUOTAS] SEC(".bss.sched");

static __always_inline __u32 place_of(__u64 queue)
{
	return (__u32)(queue >> 6) * 0x9e3779b1U >> 20;
}

/* The task runs, and its run queue was throttled for this time in all. Returns the quota's number in records, which is not 0, and
 * records how long it was throttled since the last task ran. */
static __noinline __u32 see_quota(struct task_struct *task, __u64 time)
{
	__u64 queue = queue_of(task), took, at;
	__u32 entry = place_of(queue), number = 1 + entry % 255;
	struct quota *q = &quotas[entry % QUOTAS];

	if (q->of != queue) {
		__builtin_memset(q, 0, sizeof(*q));
		q->of = queue;
	}
	took = time - q->time;
	if (!took)
		return number;
	q->time = time;
	at = q->count++ % LASTS;
	q->last[at].ns = bpf_ktime_get_ns();
	q->last[at].took = took;
	if (triggers.only || has_stopped())
		return number;
	struct sched *e = mapring_reserve(&sched);
	if (!e)
		return number;
	e->ns = q->last[at].ns;
	e->pid = task->tgid;
	e->tid = task->pid;
	e->task = THROTTLED | number << QUOTA_AT;
	e->state = e->prio = e->other_prio = 0;
	e->comm[0] = took;
	e->comm[1] = 0;
	mapring_commit(&sched, e);
	return number;
}

/* How long of this time, which is over, the task was throttled, by what its run queue saw last. */
static __noinline __u64 throttled_of(struct task_struct *task, __u64 ns, __u64 time)
{
	__u64 queue = queue_of(task), sum = 0;
	struct quota *q = &quotas[place_of(queue) % QUOTAS];

	if (q->of != queue)
		return 0;
	for (int i = 0; i < LASTS; i++)
		if (q->last[i].ns + time > ns)
			sum += q->last[i].took;
	if (sum <= time)
		return sum;
	return q->count == 1 ? 0 : time; /* the first one may be all that was before the recording */
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* How each program of the recorder begins: it compares the word that stops the recording with the time, and reserves a record.
 * cli/flight/src/stopped.rs has the same in Rust. */

#define CONDITIONS 8

struct stop {
	__u64 at; /* when programs stop recording; 0 if they go on */
	__u64 ns; /* when the condition was met */
	__u64 value;
	__u32 kind, condition;
	__u32 cpu, pid, tid, unused;
	__u64 comm[2];
	__u64 met[CONDITIONS]; /* how often, since the start or the last `resume` */
	__u64 over;	       /* the `at` that a program has seen pass: others need not take the time */
};

/* The end of the recording, with its cause. Programs load `at` and `over`. The cell's claim lets one of them write the rest. */
MAPRING_CELL(stop, struct stop);

/* Not empty after the end was set: that wakes those who wait for it. `resume` empties it. */
struct {
	__uint(type, 27); /* BPF_MAP_TYPE_RINGBUF */
	__uint(max_entries, 1 << 16);
} bell SEC(".maps");

static __always_inline struct stop *the_stop(void)
{
	__u64 *seq = mapring__word(&stop, MAPRING__FIRST(sizeof(struct mapring_cell__stop)));

	return seq ? (struct stop *)(seq + 1) : 0;
}

/* Before a record is reserved, as it would overwrite an older one. Takes the time only from when an end is set until it is over. */
static __always_inline int has_stopped(void)
{
	struct stop *s = the_stop();
	__u64 at = s ? mapring__load(&s->at) : 0;

	if (!at)
		return 0;
	if (mapring__load(&s->over) == at)
		return 1;
	if (bpf_ktime_get_ns() < at)
		return 0;
	mapring__store(&s->over, at);
	return 1;
}

/* The process and thread that run. */
#define RUNNING(e)                                             \
	{                                                      \
		__u64 task = bpf_get_current_pid_tgid();       \
		(e)->pid = task >> 32;                         \
		(e)->tid = task;                               \
	}

/* Reserves a record of this ring with time and task, or ends the program. */
#define RESERVE(ring)                                          \
	if (has_stopped())                                     \
		return 0;                                      \
	struct ring *e = mapring_reserve(&ring);               \
	if (!e)                                                \
		return 0;                                      \
	e->ns = bpf_ktime_get_ns();                            \
	RUNNING(e)

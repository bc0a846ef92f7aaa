// SPDX-License-Identifier: MIT OR Apache-2.0
/* One record at a time, with the time in it. */
#include <mapring/ring.bpf.h>

#include "stream.h"

/* A run. Input: the first record's number, the number of records, the nanoseconds between two, and the start time.
 * Output: the nanoseconds of all records together, each with a clock read, and the number of records without room. */
struct paced {
	__u64 next;
	__u64 count;
	__u64 gap;
	__u64 at;
	__u64 ns;
	__u64 failed;
};

static __always_inline void stamp(struct record *r, __u64 n, __u64 ns)
{
	fill(r, n);
	r->words[0] = ns;
}

/* The clock is read either before the claim, so that the record's latency starts there, or after it, as in programs
 * that fill records in place. */
static __always_inline int mapring_before(__u64 n, __u64 ns)
{
	struct record *r = mapring_reserve(&ours);

	if (!r)
		return 0;
	stamp(r, n, ns);
	mapring_commit(&ours, r);
	return 1;
}

static __always_inline int mapring_after(__u64 n, __u64 ns)
{
	struct record *r = mapring_reserve(&ours);

	(void)ns;
	if (!r)
		return 0;
	stamp(r, n, bpf_ktime_get_ns());
	mapring_commit(&ours, r);
	return 1;
}

struct woken {
	__u64 words[7];
};

MAPRING_RING(waking, struct woken, SLOTS, WAKEABLE);

static __always_inline int wakeable_before(__u64 n, __u64 ns)
{
	struct woken *r = mapring_reserve(&waking);

	if (!r)
		return 0;
	stamp((struct record *)r, n, ns);
	mapring_commit(&waking, r);
	return 1;
}

static __always_inline int ringbuf_before(__u64 n, __u64 ns, __u64 flags)
{
	struct record *r = bpf_ringbuf_reserve(&ringbuf, sizeof(*r), 0);

	if (!r)
		return 0;
	stamp(r, n, ns);
	bpf_ringbuf_submit(r, flags);
	return 1;
}

static __always_inline int ringbuf_after(__u64 n, __u64 ns, __u64 flags)
{
	struct record *r = bpf_ringbuf_reserve(&ringbuf, sizeof(*r), 0);

	(void)ns;
	if (!r)
		return 0;
	stamp(r, n, bpf_ktime_get_ns());
	bpf_ringbuf_submit(r, flags);
	return 1;
}

/* `produce` may use `n`, the record's number, and `ns`, the time now. */
#define PACED(name, produce)                                                    \
	static long name##_step(__u32 i, struct paced *run)                     \
	{                                                                       \
		__u64 n = run->next++, ns;                                      \
                                                                                \
		(void)i;                                                        \
		/* Irregular, so that the CPUs do not fall into step. */    \
		run->at += run->gap + ((n * 2654435761U >> 16) & 511);          \
		wait_until(run->at);                                            \
		ns = bpf_ktime_get_ns();                                        \
		run->failed += !(produce);                                      \
		run->ns += bpf_ktime_get_ns() - ns;                             \
		return 0;                                                       \
	}                                                                       \
                                                                                \
	SEC("syscall") int name(struct paced *context)                          \
	{                                                                       \
		struct paced run = *context;                                    \
                                                                                \
		bpf_loop(run.count, name##_step, &run, 0);                      \
		*context = run;                                                 \
		return 0;                                                       \
	}

PACED(mapring_early, mapring_before(n, ns))
PACED(mapring_late, mapring_after(n, ns))
PACED(wakeable, wakeable_before(n, ns))
PACED(ringbuf_early, ringbuf_before(n, ns, BPF_RB_NO_WAKEUP))
PACED(ringbuf_late, ringbuf_after(n, ns, BPF_RB_NO_WAKEUP))
PACED(ringbuf_wake, ringbuf_before(n, ns, 0))
PACED(clock_alone, 1)

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Regions of each kind that the package reads. Tests run the programs by hand. */
#include <mapring/cell.bpf.h>
#include <mapring/commands.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/gauge.bpf.h>
#include <mapring/global.bpf.h>
#include <mapring/histogram.bpf.h>
#include <mapring/latch.bpf.h>
#include <mapring/percpu.bpf.h>
#include <mapring/ring.bpf.h>
#include <mapring/tagged.bpf.h>
#include <mapring/top.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct args {
	__u64 n, count;
};

enum state { BROKEN = -1, READY, BUSY };

struct point {
	__u32 x;
	__s16 y[3];
};

/* Every sort of field. */
struct sample {
	__u64 ns;
	__u32 pid;
	enum state state;
	char comm[16];
	__u8 address[6];
	_Bool flag;
	struct point points[2];
	__u64 grid[2][2];
	__u32 low : 3;
	__s32 high : 5;
	union {
		__u32 whole;
		__u16 half[2];
	};
	const volatile void *where;
};

struct pushed {
	__u32 pid;
};

struct popped {
	__u64 ns;
};

struct event {
	__u64 tag;
	union {
		MAPRING_VARIANT(1, struct pushed, pushed);
		MAPRING_VARIANT(2, struct popped, popped);
	};
};

struct row {
	__u64 n, words[6];
};

MAPRING_RING(samples, struct sample, 64);
MAPRING_RING(frozen, struct sample, 64);
MAPRING_RING(woken, struct row, 64, WAKEABLE);
MAPRING_RING(kept, struct row, 64, KEEP_OLDEST);
MAPRING_RING(tailed, struct row, 64, TAILS(64, 16384));
MAPRING_RING(spread, struct row, 64, PER_CPU_MAPS);
MAPRING_RING(events, struct event, 64);
MAPRING_RING(numbers, __u64, 64);
MAPRING_RING(left, __u64, 64);
MAPRING_RING(grows, __u64, 64, RESIZABLE);
MAPRING_CELLS(cells, struct point, 4);
MAPRING_PERCPU_CELLS(copies, struct point, 2);
MAPRING_LATCHES(latches, struct point, 2);
MAPRING_COUNTERS(counters, 3);
MAPRING_HISTOGRAMS(histograms, 2);
MAPRING_GAUGES(gauges, 2);
MAPRING_TOP_KEYS(top, 64);

struct tune {
	__u32 every;
	__s16 by[2];
	struct point at;
	char name[8];
};

MAPRING_COMMANDS(tunes, struct tune, 4);
MAPRING_GLOBAL_CELL(newest, struct tune);
MAPRING_GLOBAL_LATCH(tuning, struct tune);
__u32 carried_out;
__s64 below;
struct point torn;

static __always_inline void carry_out(const struct tune *tune)
{
	mapring_latch_set(&tuning, tune);
	mapring_cell_set(&newest, tune);
	__sync_fetch_and_add(&carried_out, 1);
	below = -(__s64)tune->every;
	torn.x = tune->every;
}

SEC("syscall")
int carry_out_all(void *args __attribute__((unused)))
{
	mapring_commands_drain(&tunes, carry_out);
	return 0;
}

/* The kernel's own ring buffer, for its speed with bcc. As in linux/bpf.h, which a machine may lack. */
enum { RINGBUF = 27, NO_WAKEUP = 1 };

struct {
	__uint(type, RINGBUF);
	__uint(max_entries, 1 << 20);
} ringbuf SEC(".maps");

static __always_inline void fill(struct sample *s, __u64 n)
{
	__builtin_memset(s, 0, sizeof(*s));
	s->ns = bpf_ktime_get_ns();
	s->pid = n;
	s->state = n % 2 ? BROKEN : BUSY;
	bpf_get_current_comm(s->comm, sizeof(s->comm));
	s->address[5] = n;
	s->flag = n % 2;
	s->points[1].x = n;
	s->points[1].y[2] = -(__s16)n;
	s->grid[1][0] = n;
	s->low = n;
	s->high = -(__s32)(n % 8);
	s->half[1] = n;
	s->where = (void *)n;
}

#define PUSH_SAMPLES(ring)                                             \
	SEC("syscall")                                                 \
	int push_##ring(struct args *args)                             \
	{                                                              \
		for (__u32 i = 0; i < 256 && i < args->count; i++) {   \
			struct sample *s = mapring_reserve(&ring);     \
			if (!s)                                        \
				return 1;                              \
			fill(s, args->n + i);                          \
			mapring_commit(&ring, s);                      \
		}                                                      \
		return 0;                                              \
	}
#define PUSH_ROWS(ring)                                                \
	SEC("syscall")                                                 \
	int push_##ring(struct args *args)                             \
	{                                                              \
		for (__u32 i = 0; i < 256 && i < args->count; i++) {   \
			struct row *r = mapring_reserve(&ring);        \
			if (!r)                                        \
				return 1;                              \
			r->n = args->n + i;                            \
			r->words[5] = 2 * r->n;                        \
			mapring_commit(&ring, r);                      \
		}                                                      \
		return 0;                                              \
	}

PUSH_SAMPLES(samples)
PUSH_SAMPLES(frozen)
PUSH_ROWS(woken)
PUSH_ROWS(kept)
PUSH_ROWS(spread)

SEC("syscall")
int push_tailed(struct args *args)
{
	struct row *r = mapring_reserve(&tailed);
	char *tail;

	if (!r)
		return 1;
	r->n = args->n;
	tail = mapring_tail(&tailed, r);
	tail[0] = 't';
	tail[1] = args->n;
	mapring_commit_tail(&tailed, r, 2);
	return 0;
}

SEC("syscall")
int push_events(struct args *args)
{
	struct event *pushed = mapring_reserve(&events), *popped;

	if (!pushed)
		return 1;
	pushed->tag = 1;
	pushed->pushed.pid = args->n;
	mapring_commit(&events, pushed);
	popped = mapring_reserve(&events);
	if (!popped)
		return 1;
	popped->tag = 2;
	popped->popped.ns = args->n;
	mapring_commit(&events, popped);
	return 0;
}

SEC("syscall")
int push_ringbuf(struct args *args)
{
	for (__u32 i = 0; i < 256 && i < args->count; i++) {
		struct row *r = bpf_ringbuf_reserve(&ringbuf, sizeof(*r), 0);

		if (!r)
			return 1;
		r->n = args->n + i;
		bpf_ringbuf_submit(r, NO_WAKEUP);
	}
	return 0;
}

#define PUSH_NUMBER(ring)                                              \
	SEC("syscall")                                                 \
	int push_##ring(struct args *args)                             \
	{                                                              \
		return mapring_output(&ring, &args->n) ? 1 : 0;        \
	}

PUSH_NUMBER(numbers)
PUSH_NUMBER(left)
PUSH_NUMBER(grows)

/* Never ends its record. */
SEC("syscall")
int leave(void *args __attribute__((unused)))
{
	return mapring_reserve(&left) ? 0 : 1;
}

SEC("syscall")
int change(struct args *args)
{
	struct point now = { .x = args->n, .y = { 1, 2, -3 } };

	mapring_cell_set(&cells, 3, &now);
	mapring_cell_set(&copies, 1, &now);
	mapring_latch_set(&latches, 1, &now);
	mapring_counter_add(&counters, 2, args->n);
	mapring_histogram_add(&histograms, 1, args->n);
	mapring_gauge_set(&gauges, 1, args->n);
	mapring_top_add(&top, args->n, 10);
	return 0;
}

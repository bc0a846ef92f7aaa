/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What the writers of stress.bpf.c do, and how they count it independently of the library. */
#ifndef STRESS_H
#define STRESS_H

#ifdef SLOW
#include <mapring/detail/abi.bpf.h>
static int in_claim(void);
#define MAPRING__IN_CLAIM in_claim()
#endif

#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/latch.bpf.h>
#include <mapring/ring.bpf.h>

#define MAP_TYPE_PERCPU_ARRAY 6

/* `Context` in tests/stress/counted.rs. */
enum context {
	CALL,    /* a task that enters the kernel */
	PROBE,   /* a task at a probe of its own code */
	SLEEPER, /* a task that may sleep in the middle of its record */
	SWITCH,  /* the scheduler, interrupts off */
	SOFTIRQ, /* work deferred by interrupts */
	CLOCK,   /* an interrupt */
	CONTEXTS,
};

/* All words are computed from the ticket and the writer, so a mix of two records is detected. */
struct item {
	__u64 ticket, writer, words[5];
};

#define MIX(ticket, writer, i) ((ticket) * 0x9e3779b97f4a7c15ULL + (writer) * 0xc2b2ae3d27d4eb4fULL + (i))

MAPRING_RING(ring_1, struct item, 1);
MAPRING_RING(ring_2, struct item, 2);
MAPRING_RING(ring_4, struct item, 4);
MAPRING_RING(ring_4096, struct item, 4096);
MAPRING_CELLS(cells, struct item, 2);
MAPRING_COUNTERS(counters, 3);
MAPRING_LATCHES(latches, struct item, 2); /* userspace writes 0, a program writes 1 */

/* The results of the writes to one ring, cell or latch, or of one counter, on one CPU. */
struct count {
	__u64 committed, discarded, dropped;
	__u64 doubled; /* tickets that another claim also got */
	__u64 nested;  /* claims while another program was active here */
};

/* Rings 0 to 3, cells 4 and 5, counters 6 to 8 (sums in `committed`), latch 9. */
struct {
	__uint(type, MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 10);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

/* The current activity of one CPU, and its events. */
struct state {
	__u64 running;  /* programs that have not ended, interrupted ones included: ONE of each context */
	__u64 claiming; /* those between reserve and commit, or begin and end */
	__u64 runs[CONTEXTS];
	__u64 nested[CONTEXTS][CONTEXTS]; /* [context]: while one of [context] was running */
	__u64 midway[CONTEXTS][CONTEXTS]; /* … while it was writing a record */
	__u64 looks[CONTEXTS], busy[CONTEXTS]; /* at the latch; those that gave up */
	__u64 torn, back;                      /* errors: a torn value, an older value than before */
	__u64 seen[CONTEXTS];                  /* the last number of the latch */
	__u64 begun, slow, interrupted;        /* programs; claims that took long; those that programs interrupted */
};

#define ONE(context) (1ULL << 8 * (context))
#define OF(context, word) ((word) >> 8 * (context) & 0xff)

struct {
	__uint(type, MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} states SEC(".maps");

/* The last claimed tickets, each in its own place: [CPU][ring][ticket % WINDOW]. */
#define WINDOW 16384
#define RINGS 4
struct {
	__uint(type, MAPRING__MAP_TYPE_ARRAY);
	__uint(max_entries, RINGS * WINDOW); /* for each CPU: the loader multiplies */
	__type(key, __u32);
	__type(value, __u64);
} claimed SEC(".maps");

static __always_inline struct state *state_here(void)
{
	return (struct state *)mapring__word(&states, 0);
}

static __always_inline struct count *count_of(__u32 index)
{
	return (struct count *)mapring__word(&counts, index);
}

static __always_inline struct state *enter(enum context context)
{
	struct state *state = state_here();
	__u64 running, claiming;

	if (!state)
		return 0;
	running = mapring__load(&state->running);
	claiming = mapring__load(&state->claiming);
	if (running) {
		for (int outer = 0; outer < CONTEXTS; outer++) {
			if (OF(outer, running))
				mapring__count(&state->nested[context][outer], 1);
			if (OF(outer, claiming))
				mapring__count(&state->midway[context][outer], 1);
		}
	}
	mapring__count(&state->begun, 1);
	mapring__count(&state->running, ONE(context));
	mapring__count(&state->runs[context], 1);
	return state;
}

#ifdef SLOW
/* One claim in 8 takes long between reading the sequence and the store. */
static __attribute__((noinline)) int in_claim(void)
{
	struct state *state = state_here();
	__u64 begun, sum = 0;

	if (!state || bpf_get_prandom_u32() % 8)
		return 0;
	begun = mapring__load(&state->begun);
#pragma clang loop unroll(disable) /* or clang 22 keeps each time on the stack: too much stack for Linux 6.1 */
	for (int i = 0; i < 40; i++)
		sum += bpf_ktime_get_ns();
	mapring__count(&state->slow, 1);
	if (mapring__load(&state->begun) != begun)
		mapring__count(&state->interrupted, 1);
	return (int)sum;
}
#endif

static __always_inline int leave(struct state *state, enum context context)
{
	mapring__count(&state->running, -ONE(context));
	return 0;
}

static __always_inline void fill(struct item *r, __u64 ticket, __u64 writer)
{
	r->ticket = ticket;
	r->writer = writer;
	for (int i = 0; i < 5; i++)
		r->words[i] = MIX(ticket, writer, i);
}

static __always_inline int whole(const struct item *r)
{
	__u64 wrong = !r->writer;

	for (int i = 0; i < 5; i++)
		wrong |= r->words[i] ^ MIX(r->ticket, r->writer, i);
	return !wrong;
}

/* Records that `ticket` was claimed. Returns whether it was claimed before. */
static __always_inline int was_claimed(__u32 ring, __u64 ticket)
{
	__u32 at = (bpf_get_smp_processor_id() * RINGS + ring) * WINDOW + (ticket & (WINDOW - 1));
	__u64 *word = mapring__word(&claimed, at);

	return word && mapring__xchg(word, ticket + 1) == ticket + 1;
}

static __always_inline __u64 *first_slot(struct mapring__shard shard)
{
	return mapring__slot(shard.ring, shard.base, 0);
}

/* Between claim and commit: nothing, or access to a userspace page that may arrive late. */
#define AT_ONCE(page) asm volatile("" : : "r"(page)) /* or callers leave it out */
#define SLEEP(page)                                                            \
	do {                                                                   \
		__u64 word;                                                    \
		(void)bpf_copy_from_user(&word, sizeof(word), (void *)(page)); \
	} while (0)

/* Every `discards`-th record is discarded; its words must never reach a reader. */
#define PRODUCE(name, ring, slots, discards, PAUSE)                                             \
	__attribute__((noinline)) int name##_##slots(__u64 writer, __u64 one, __u64 page)       \
	{                                                                                       \
		struct count *count = count_of(ring);                                           \
		struct state *state = state_here();                                             \
		__u64 *first, ticket;                                                           \
		struct item *r;                                                                 \
                                                                                                \
		if (!count || !state)                                                           \
			return 0;                                                               \
		mapring__count(&state->claiming, one);                                          \
		r = mapring_reserve(&ring_##slots);                                             \
		if (!r) {                                                                       \
			mapring__count(&count->dropped, 1);                                     \
			goto out;                                                               \
		}                                                                               \
		/* The ticket, computed from the slot's lap and its place among the slots. */   \
		first = first_slot(mapring__shard__ring_##slots(mapring__at__ring_##slots()));  \
		if (!first) {                                                                   \
			mapring_discard(&ring_##slots, r);                                      \
			goto out;                                                               \
		}                                                                               \
		ticket = mapring__load((__u64 *)r - 1) / 2 * slots;                             \
		ticket += ((char *)r - (char *)(first + 1)) / sizeof(struct mapring_ring__ring_##slots); \
		if (was_claimed(ring, ticket))                                                  \
			mapring__count(&count->doubled, 1);                                     \
		if (mapring__load(&state->running) != one)                                      \
			mapring__count(&count->nested, 1);                                      \
		PAUSE(page);                                                                    \
		if (discards && writer % discards == 0) {                                       \
			fill(r, ~ticket, writer);                                               \
			mapring_discard(&ring_##slots, r);                                      \
			mapring__count(&count->discarded, 1);                                   \
		} else {                                                                        \
			fill(r, ticket, writer);                                                \
			mapring_commit(&ring_##slots, r);                                       \
			mapring__count(&count->committed, 1);                                   \
		}                                                                               \
	out:                                                                                    \
		mapring__count(&state->claiming, -one);                                         \
		return 0;                                                                       \
	}

/* A cell's ticket is the version of the write. */
#define SET_CELL(name, PAUSE)                                                            \
	__attribute__((noinline)) int name(__u32 index, __u64 writer, __u64 one, __u64 page) \
	{                                                                                \
		struct count *count = count_of(4 + index);                               \
		struct state *state = state_here();                                      \
		struct item *r;                                                          \
                                                                                         \
		if (!count || !state)                                                    \
			return 0;                                                        \
		mapring__count(&state->claiming, one);                                   \
		r = mapring_cell_begin(&cells, index);                                   \
		if (r) {                                                                 \
			PAUSE(page);                                                     \
			fill(r, (mapring__load((__u64 *)r - 1) + 1) / 2, writer);        \
			mapring_cell_end(r);                                             \
			mapring__count(&count->committed, 1);                            \
			if (mapring__load(&state->running) != one)                       \
				mapring__count(&count->nested, 1);                       \
		} else {                                                                 \
			mapring__count(&count->dropped, 1);                              \
		}                                                                        \
		mapring__count(&state->claiming, -one);                                  \
		return 0;                                                                \
	}

PRODUCE(produce, 0, 1, 0, AT_ONCE)
PRODUCE(produce, 1, 2, 16, AT_ONCE)
PRODUCE(produce, 2, 4, 16, AT_ONCE)
PRODUCE(produce, 3, 4096, 0, AT_ONCE)
SET_CELL(set_cell, AT_ONCE)
PRODUCE(sleep, 0, 1, 0, SLEEP)
PRODUCE(sleep, 1, 2, 16, SLEEP)
PRODUCE(sleep, 2, 4, 16, SLEEP)
PRODUCE(sleep, 3, 4096, 0, SLEEP)
SET_CELL(sleep_in_cell, SLEEP)

static __always_inline void add(__u32 index, __u64 by)
{
	struct count *count = count_of(6 + index);

	mapring_counter_add(&counters, index, by);
	if (count)
		mapring__count(&count->committed, by);
}

/* Reads the latch that userspace writes. If no program interrupts another of its kind, numbers only grow. */
static __always_inline void look(struct state *state, enum context context)
{
	struct item now;

	mapring__count(&state->looks[context], 1);
	if (mapring_latch_read(&latches, 0, &now)) {
		mapring__count(&state->busy[context], 1);
		return;
	}
	if (!whole(&now))
		mapring__count(&state->torn, 1);
	if (context == SLEEPER || context == PROBE)
		return;
	if (now.ticket < mapring__load(&state->seen[context]))
		mapring__count(&state->back, 1);
	mapring__store(&state->seen[context], now.ticket);
}

#endif

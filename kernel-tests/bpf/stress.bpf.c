// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * Writers that interrupt each other: every system call, and a clock that strikes in between.
 * Both count what they do behind the library's back, for the test to compare.
 */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

#define MAP_TYPE_PERCPU_ARRAY 6

/* All words follow from the ticket and from who wrote it: a record of two writers shows. */
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

/* What became of the writes to one ring or cell, or of one counter, on one CPU. */
struct count {
	__u64 committed, discarded, dropped;
	__u64 doubled; /* tickets that somebody else had, too */
	__u64 nested;  /* claims while another program was interrupted in here */
};

/* Rings 0 to 3, cells 4 and 5, counters 6 to 8 (sums in `committed`). */
struct {
	__uint(type, MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 9);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

/* What one CPU is about, and what happened there. */
struct state {
	__u64 depth;     /* programs on this CPU, the interrupted ones included */
	__u64 claiming;  /* those between reserve and commit, or begin and end */
	__u64 calls, ticks;
	__u64 nested;    /* ticks in the middle of another program */
	__u64 in_claim;  /* ticks in the middle of another program's record */
	__u64 preempted; /* system calls in the middle of another program: of another task */
};

struct {
	__uint(type, MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct state);
} states SEC(".maps");

/* The last tickets that were claimed, each at its own place: [CPU][ring][ticket % WINDOW]. */
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

static __always_inline void fill(struct item *r, __u64 ticket, __u64 writer)
{
	r->ticket = ticket;
	r->writer = writer;
	for (int i = 0; i < 5; i++)
		r->words[i] = MIX(ticket, writer, i);
}

/* Notes that `ticket` was claimed: whether somebody did before. */
static __always_inline int was_claimed(__u32 ring, __u64 ticket)
{
	__u32 at = (bpf_get_smp_processor_id() * RINGS + ring) * WINDOW + (ticket & (WINDOW - 1));
	__u64 *word = mapring__word(&claimed, at);

	return word && mapring__xchg(word, ticket + 1) == ticket + 1;
}

/* Every `discards`-th record is discarded, with words in it that no reader may ever see. */
#define PRODUCE(ring, slots, discards)                                                          \
	__attribute__((noinline)) int produce_##slots(__u64 writer)                             \
	{                                                                                       \
		struct count *count = (struct count *)mapring__word(&counts, ring);             \
		struct state *state = state_here();                                             \
		__u64 *first, ticket;                                                           \
		struct item *r;                                                                 \
                                                                                                \
		if (!count || !state)                                                           \
			return 0;                                                               \
		mapring__count(&state->claiming, 1);                                            \
		r = mapring_reserve(&ring_##slots);                                             \
		if (!r) {                                                                       \
			mapring__count(&count->dropped, 1);                                     \
			goto out;                                                               \
		}                                                                               \
		/* The ticket as the slot tells it: its lap, and its place among the slots. */  \
		first = mapring__word(&ring_##slots, MAPRING__RING_SLOT(ring_##slots, slots,    \
					MAPRING__RING_BASE(ring_##slots, slots), 0));           \
		if (!first) {                                                                   \
			mapring_discard(r);                                                     \
			goto out;                                                               \
		}                                                                               \
		ticket = mapring__load((__u64 *)r - 1) / 2 * slots;                             \
		ticket += ((char *)r - (char *)(first + 1)) / sizeof(struct mapring_ring__ring_##slots); \
		if (was_claimed(ring, ticket))                                                  \
			mapring__count(&count->doubled, 1);                                     \
		if (mapring__load(&state->depth) > 1)                                           \
			mapring__count(&count->nested, 1);                                      \
		if (discards && writer % discards == 0) {                                       \
			fill(r, ~ticket, writer);                                               \
			mapring_discard(r);                                                     \
			mapring__count(&count->discarded, 1);                                   \
		} else {                                                                        \
			fill(r, ticket, writer);                                                \
			mapring_commit(r);                                                      \
			mapring__count(&count->committed, 1);                                   \
		}                                                                               \
	out:                                                                                    \
		mapring__count(&state->claiming, -1);                                           \
		return 0;                                                                       \
	}

PRODUCE(0, 1, 0)
PRODUCE(1, 2, 16)
PRODUCE(2, 4, 16)
PRODUCE(3, 4096, 0)

/* A cell's ticket is the version that the write will have. */
__attribute__((noinline)) int set_cell(__u32 index, __u64 writer)
{
	struct count *count = (struct count *)mapring__word(&counts, 4 + index);
	struct state *state = state_here();
	struct item *r;

	if (!count || !state)
		return 0;
	mapring__count(&state->claiming, 1);
	r = mapring_cell_begin(&cells, index);
	if (r) {
		fill(r, (mapring__load((__u64 *)r - 1) + 1) / 2, writer);
		mapring_cell_end(r);
		mapring__count(&count->committed, 1);
		if (mapring__load(&state->depth) > 1)
			mapring__count(&count->nested, 1);
	} else {
		mapring__count(&count->dropped, 1);
	}
	mapring__count(&state->claiming, -1);
	return 0;
}

static __always_inline void add(__u32 index, __u64 by)
{
	struct count *count = (struct count *)mapring__word(&counts, 6 + index);

	mapring_add(&counters, index, by);
	if (count)
		mapring__count(&count->committed, by);
}

SEC("raw_tp/sys_enter")
int on_call(void *ctx __attribute__((unused)))
{
	__u64 writer = bpf_ktime_get_ns();
	struct state *state = state_here();

	if (!state)
		return 0;
	if (mapring__load(&state->depth))
		mapring__count(&state->preempted, 1);
	mapring__count(&state->depth, 1);
	mapring__count(&state->calls, 1);
	produce_1(writer);
	produce_2(writer);
	produce_4(writer);
	produce_4096(writer);
	set_cell(0, writer);
	set_cell(1, writer);
	add(0, 1);
	add(1, writer & 0xff);
	mapring__count(&state->depth, -1);
	return 0;
}

SEC("perf_event")
int on_tick(void *ctx __attribute__((unused)))
{
	__u64 writer = bpf_ktime_get_ns();
	struct state *state = state_here();

	if (!state)
		return 0;
	if (mapring__load(&state->depth))
		mapring__count(&state->nested, 1);
	if (mapring__load(&state->claiming))
		mapring__count(&state->in_claim, 1);
	mapring__count(&state->depth, 1);
	mapring__count(&state->ticks, 1);
	/* Several, so that who was interrupted finds the end of the ring far on. */
	for (__u32 i = 0; i < 6; i++) {
		produce_2(writer + i);
		produce_4(writer + i);
		produce_4096(writer + i);
	}
	produce_1(writer);
	set_cell(0, writer);
	add(0, 1);
	add(2, writer & 0xff);
	mapring__count(&state->depth, -1);
	return 0;
}

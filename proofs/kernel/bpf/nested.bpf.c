// SPDX-License-Identifier: MIT OR Apache-2.0
/* Writers that interrupt each other: packets, a clock, the scheduler. Each counts its own actions independently of the
 * library, and how often it interrupted a guarded claim. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

#define MAP_TYPE_PERCPU_ARRAY 6
#define XDP_PASS 2

/* All words are computed from the writer and its count, so a mix of two records is detected. */
struct item {
	__u64 writer, n, words[5];
};

#define MIX(writer, n, i) ((n) * 0x9e3779b97f4a7c15ULL + (writer) * 0xc2b2ae3d27d4eb4fULL + (i))

MAPRING_RING(ring_4, struct item, 4);
MAPRING_RING(ring_8, struct item, 8);
MAPRING_RING(ring_64, struct item, 64);
MAPRING_RING(ring_4096, struct item, 4096);

enum { PACKET, TICK, SWITCH, WRITERS };
#define RINGS 4

/* A writer's actions on a ring on one CPU. */
struct count {
	__u64 committed, discarded, dropped;
	__u64 next;    /* the number of its next record */
	__u64 nested;  /* records while another program was writing one */
	__u64 pending; /* and of those, during a claim */
};

/* [ring][writer] */
struct {
	__uint(type, MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RINGS * WRITERS);
	__type(key, __u32);
	__type(value, struct count);
} counts SEC(".maps");

/* The unfinished records of a ring on one CPU. */
struct under_way {
	__u64 now;     /* writers of one */
	__u64 begun;   /* all that began */
	__u64 before;  /* and before the current writer that interrupts no other */
	__u64 longest; /* the most that began while such a writer was active */
};

/* [ring] */
struct {
	__uint(type, MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, RINGS);
	__type(key, __u32);
	__type(value, struct under_way);
} writing SEC(".maps");

static __always_inline void begin(struct under_way *writing)
{
	if (!writing->now)
		writing->before = writing->begun;
	mapring__count(&writing->begun, 1);
	mapring__store(&writing->now, writing->now + 1);
}

static __always_inline void end(struct under_way *writing)
{
	__u64 records = writing->begun - writing->before;

	mapring__store(&writing->now, writing->now - 1);
	if (!writing->now && records > writing->longest)
		writing->longest = records;
}

/* Every 8th record of the clock is discarded; its words must never reach a reader. */
#define PRODUCE(ring, slots)                                                                    \
	__attribute__((noinline)) int produce_##slots(__u64 writer)                             \
	{                                                                                       \
		struct count *count;                                                            \
		struct under_way *here = (struct under_way *)mapring__word(&writing, ring);     \
		__u64 *head;                                                                    \
		struct item *r;                                                                 \
		__u64 n;                                                                        \
                                                                                                \
		count = (struct count *)mapring__word(&counts, ring *WRITERS + writer % WRITERS); \
		head = mapring__word(&ring_##slots, mapring__at__ring_##slots());               \
		if (!count || !here || !head)                                                   \
			return 0;                                                               \
		n = count->next++;                                                              \
		if (here->now)                                                                  \
			count->nested++;                                                        \
		if (mapring__load(head) & MAPRING__PENDING)                                     \
			count->pending++;                                                       \
		begin(here);                                                                    \
		r = mapring_reserve(&ring_##slots);                                             \
		if (!r) {                                                                       \
			count->dropped++;                                                       \
		} else {                                                                        \
			r->writer = writer;                                                     \
			r->n = n;                                                               \
			for (int i = 0; i < 5; i++)                                             \
				r->words[i] = MIX(writer, n, i);                                \
			if (writer == TICK && n % 8 == 0) {                                     \
				r->words[0] = 0;                                                \
				mapring_discard(&ring_##slots, r);                              \
				count->discarded++;                                             \
			} else {                                                                \
				mapring_commit(&ring_##slots, r);                               \
				count->committed++;                                             \
			}                                                                       \
		}                                                                               \
		end(here);                                                                      \
		return 0;                                                                       \
	}

PRODUCE(0, 4)
PRODUCE(1, 8)
PRODUCE(2, 64)
PRODUCE(3, 4096)

static __always_inline void produce_all(__u64 writer)
{
	produce_4(writer);
	produce_8(writer);
	produce_64(writer);
	produce_4096(writer);
}

SEC("xdp")
int on_packet(void *ctx __attribute__((unused)))
{
	for (int i = 0; i < 16; i++)
		produce_all(PACKET);
	return XDP_PASS;
}

/* A burst from time to time, with more records than the small rings hold. */
SEC("perf_event")
int on_tick(void *ctx __attribute__((unused)))
{
	int burst = bpf_get_prandom_u32() % 4 == 0 ? 11 : 1;

	for (int i = 0; i < 11; i++)
		if (i < burst)
			produce_all(TICK);
	return 0;
}

SEC("perf_event")
int on_switch(void *ctx __attribute__((unused)))
{
	produce_all(SWITCH);
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Every way to write, inside a loop of TIMES iterations for the verifier to walk through. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

#ifndef TIMES
#define TIMES 1024
#endif
#ifndef BY_HAND
#define BY_HAND "syscall"
#define ON_EVENT "raw_tp/sys_enter"
#endif

/* With its sequence it fills a slot of 64 bytes. */
struct item {
	__u64 words[7];
};

MAPRING_RING(one, struct item, 1);
MAPRING_RING(few, struct item, 4);
MAPRING_RING(many, struct item, 4096);
MAPRING_RING(most, struct item, 65536);
MAPRING_CELLS(cells, struct item, 100);
MAPRING_COUNTERS(counters, 100);

static __always_inline void fill(struct item *item, __u64 n)
{
	for (int i = 0; i < 7; i++)
		item->words[i] = n + i;
}

#define IN_LOOP(name, section, body)                        \
	SEC(section)                                        \
	int name(void *ctx __attribute__((unused)))         \
	{                                                   \
		for (__u32 n = 0; n < TIMES; n++) {         \
			body                                \
		}                                           \
		return 0;                                   \
	}

#define RESERVE(ring)                              \
	struct item *item = mapring_reserve(&ring); \
	if (item) {                                \
		fill(item, n);                     \
		mapring_commit(&ring, item);       \
	}

IN_LOOP(reserve_one, BY_HAND, RESERVE(one))
IN_LOOP(reserve_few, BY_HAND, RESERVE(few))
IN_LOOP(reserve_many, BY_HAND, RESERVE(many))
IN_LOOP(reserve_on_event, ON_EVENT, RESERVE(many))
IN_LOOP(reserve_on_tick, "perf_event", RESERVE(many))
IN_LOOP(reserve_most, BY_HAND, RESERVE(most))

/* The compiler runs out of registers, and keeps the count of the loop on the stack, beside the keys of maps. */
IN_LOOP(spill, BY_HAND, {
	struct item *item = mapring_reserve(&many);
	__u64 sum = 0;

	if (!item)
		continue;
	for (int i = 0; i < 4; i++)
		sum += bpf_ktime_get_ns();
	asm volatile("" : : "r"(sum));
	fill(item, 0);
	mapring_commit(&many, item);
})

IN_LOOP(discard, BY_HAND, {
	struct item *item = mapring_reserve(&many);

	if (item) {
		fill(item, n);
		if (n % 2)
			mapring_discard(&many, item);
		else
			mapring_commit(&many, item);
	}
})

/* The same as `discard`, without a path that could forget an end. */
IN_LOOP(scoped, BY_HAND, {
	mapring_record(many, item) {
		fill(item, n);
		if (n % 2)
			break;
	}
})

IN_LOOP(output, BY_HAND, {
	struct item ready;

	fill(&ready, n);
	mapring_output(&many, &ready);
})

IN_LOOP(cell_begin, BY_HAND, {
	struct item *item = mapring_cell_begin(&cells, n % 100);

	if (item) {
		fill(item, n);
		mapring_cell_end(item);
	}
})

IN_LOOP(cell_set, BY_HAND, {
	struct item ready;

	fill(&ready, n);
	mapring_cell_set(&cells, n % 100, &ready);
})

IN_LOOP(count, BY_HAND, { mapring_counter_add(&counters, n % 100, n); })

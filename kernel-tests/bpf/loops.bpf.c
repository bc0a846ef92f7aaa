// SPDX-License-Identifier: MIT OR Apache-2.0
/* Every way to write, from inside a loop of TIMES: what the verifier has to walk through. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

#ifndef TIMES
#define TIMES 1024
#endif

/* With its sequence a slot of 64 bytes. */
struct item {
	__u64 words[7];
};

MAPRING_RING(one, struct item, 1);
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
		mapring_commit(item);              \
	}

IN_LOOP(reserve_one, "syscall", RESERVE(one))
IN_LOOP(reserve_many, "syscall", RESERVE(many))
IN_LOOP(reserve_on_call, "raw_tp/sys_enter", RESERVE(many))
IN_LOOP(reserve_on_tick, "perf_event", RESERVE(many))
IN_LOOP(reserve_most, "syscall", RESERVE(most))

IN_LOOP(discard, "syscall", {
	struct item *item = mapring_reserve(&many);

	if (item) {
		fill(item, n);
		if (n % 2)
			mapring_discard(item);
		else
			mapring_commit(item);
	}
})

IN_LOOP(output, "syscall", {
	struct item ready;

	fill(&ready, n);
	mapring_output(&many, &ready);
})

IN_LOOP(cell_begin, "syscall", {
	struct item *item = mapring_cell_begin(&cells, n % 100);

	if (item) {
		fill(item, n);
		mapring_cell_end(item);
	}
})

IN_LOOP(cell_set, "syscall", {
	struct item ready;

	fill(&ready, n);
	mapring_cell_set(&cells, n % 100, &ready);
})

IN_LOOP(count, "syscall", { mapring_add(&counters, n % 100, n); })

// SPDX-License-Identifier: MIT OR Apache-2.0
/* One of each kind, for the reader written from docs/abi.md. All values are numbered. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/global.bpf.h>
#include <mapring/latch.bpf.h>
#include <mapring/percpu.bpf.h>
#include <mapring/ring.bpf.h>

#include "numbered.h"

char LICENSE[] SEC("license") = "GPL";

MAPRING_RING(numbers, struct numbered, 4096);

#include "numbered_programs.h"

/* A record that ends in the middle of a word, and crosses cache lines. */
struct odd {
	__u32 number, copies[4];
};

MAPRING_RING(odds, struct odd, 8);
MAPRING_CELLS(cells, struct numbered, 3);
MAPRING_LATCHES(latches, struct numbered, 3);
MAPRING_COUNTERS(counters, 9);
MAPRING_PERCPU_CELLS(percpu_cells, struct numbered, 3);
MAPRING_PERCPU_COUNTERS(percpu_counters, 9);
MAPRING_GLOBAL_CELL(global_cell, struct odd);
MAPRING_GLOBAL_LATCH(global_latch, struct odd); /* written by userspace */

/* The end of a ticket. */
enum { COMMIT, DISCARD, ABANDON };

static __always_inline void fill_odd(struct odd *odd, __u32 number)
{
	odd->number = number;
	for (int i = 0; i < 4; i++)
		odd->copies[i] = number ^ (i + 1);
}

/* One record in the small ring, with the number ctx[1]; ctx[0] selects its end. Returns in ctx[3] whether it was
 * dropped. */
SEC("syscall")
int push_odd(__u64 *ctx)
{
	struct odd *odd = mapring_reserve(&odds);

	ctx[3] = !odd;
	if (!odd)
		return 0;
	fill_odd(odd, ctx[1]);
	if (ctx[0] == COMMIT)
		mapring_commit(&odds, odd);
	else if (ctx[0] == DISCARD)
		mapring_discard(&odds, odd);
	return 0;
}

/* ctx[2] values (64 at most) of the writer ctx[0] from number ctx[1] on, in every kind. Returns in ctx[3] how many of
 * them were written to the cells. */
SEC("syscall")
int write_values(__u64 *ctx)
{
	for (__u32 i = 0; i < 64; i++) {
		__u64 number = ctx[1] + i;
		struct numbered *value;
		struct odd *odd;

		if (i >= ctx[2])
			break;
		value = mapring_cell_begin(&cells, number % 3);
		if (value) {
			fill(value, ctx[0], number);
			mapring_cell_end(value);
			ctx[3]++;
		}
		value = mapring_cell_begin(&percpu_cells, number % 3);
		if (value) {
			fill(value, ctx[0], number);
			mapring_cell_end(value);
		}
		odd = mapring_cell_begin(&global_cell);
		if (odd) {
			fill_odd(odd, number);
			mapring_cell_end(odd);
		}
		mapring_counter_add(&counters, number % 9, 3);
		mapring_counter_inc(&percpu_counters, number % 9);
	}
	return 0;
}

/* Programs read the latches: otherwise the object would not contain them. */
SEC("syscall")
int read_latches(__u64 *ctx)
{
	struct numbered value;
	struct odd odd;

	ctx[3] = mapring_latch_read(&latches, ctx[0], &value) == 0 && mapring_latch_read(&global_latch, &odd) == 0;
	return 0;
}

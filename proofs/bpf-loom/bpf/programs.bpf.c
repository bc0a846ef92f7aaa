// SPDX-License-Identifier: MIT OR Apache-2.0
/* The headers' functions for the models: tiny maps, values from the context. */
#define MAPRING_COMMANDS_AT_ONCE 2 /* so that models end a drain in both ways */
#include <mapring/cell.bpf.h>
#include <mapring/commands.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/gauge.bpf.h>
#include <mapring/global.bpf.h>
#include <mapring/histogram.bpf.h>
#include <mapring/ring.bpf.h>
#include <mapring/latch.bpf.h>
#include <mapring/percpu.bpf.h>
#include <mapring/top.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct narrow {
	__u64 a;
};

struct wide {
	__u64 a, b;
};

MAPRING_RING(narrow1, struct narrow, 1);
MAPRING_RING(narrow2, struct narrow, 2);
MAPRING_RING(narrow4, struct narrow, 4);
MAPRING_RING(narrow8, struct narrow, 8); /* more slots than a claim tries */
MAPRING_RING(narrow16, struct narrow, 16);
MAPRING_RING(wide1, struct wide, 1);
MAPRING_RING(wide2, struct wide, 2);
MAPRING_RING(waking4, struct narrow, 4, WAKEABLE);
MAPRING_RING(keeping2, struct narrow, 2, KEEP_OLDEST);
MAPRING_RING(moving, struct narrow, 2, RESIZABLE);
MAPRING_RING(placed2, struct narrow, 2, PER_CPU_MAPS);
MAPRING_RING(placed4, struct narrow, 4, PER_CPU_MAPS);
MAPRING_RING(tails4, struct narrow, 4, TAILS(64, 128));
MAPRING_RING(tails16, struct narrow, 16, TAILS(64, 1024));
MAPRING_RING(tailed4, struct narrow, 4, WAKEABLE, TAILS(64, 128));
MAPRING_RING(kept4, struct narrow, 4, KEEP_OLDEST, TAILS(64, 128));
MAPRING_RING(kept16, struct narrow, 16, KEEP_OLDEST, TAILS(64, 512));
MAPRING_CELL(cell, struct wide);
MAPRING_COUNTERS(counters, 2);
MAPRING_HISTOGRAMS(histogram, 2);
MAPRING_COMMANDS(commands, struct wide, 2);
MAPRING_GAUGES(gauge, 2);
MAPRING_TOP_KEYS(top, 2);
MAPRING_LATCH(latch, struct wide);
MAPRING_PERCPU_CELL(percpu_cell, struct wide);
MAPRING_PERCPU_COUNTERS(percpu_counters, 2);
MAPRING_GLOBAL_CELL(global_cell, struct wide);
MAPRING_GLOBAL_LATCH(global_latch, struct wide);

/* A bit of ctx[1]: the program must write. */
#define WRITE (1ULL << 63)

/* Every word of a record is ctx[0]. */
static __always_inline void fill_narrow(struct narrow *record, __u64 *ctx)
{
	record->a = ctx[0];
}

static __always_inline void fill_wide(struct wide *record, __u64 *ctx)
{
	record->a = ctx[0];
	record->b = ctx[0];
}

/* 0, or -1: dropped. */
#define PROGRAMS(type, ring)                                      \
	SEC("syscall")                                            \
	int push_##ring(__u64 *ctx)                               \
	{                                                         \
		struct type *record = mapring_reserve(&ring);     \
                                                                  \
		if (!record)                                      \
			return -1;                                \
		fill_##type(record, ctx);                         \
		mapring_commit(&ring, record);                    \
		return 0;                                         \
	}                                                         \
	SEC("syscall")                                            \
	int discard_##ring(__u64 *ctx)                            \
	{                                                         \
		struct type *record = mapring_reserve(&ring);     \
                                                                  \
		if (!record)                                      \
			return -1;                                \
		fill_##type(record, ctx);                         \
		mapring_discard(&ring, record);                   \
		return 0;                                         \
	}                                                         \
	SEC("syscall")                                            \
	int output_##ring(__u64 *ctx)                             \
	{                                                         \
		struct type record;                               \
                                                                  \
		fill_##type(&record, ctx);                        \
		return mapring_output(&ring, &record);            \
	}

PROGRAMS(narrow, narrow1)
PROGRAMS(narrow, narrow2)
PROGRAMS(narrow, narrow4)
PROGRAMS(narrow, narrow8)
PROGRAMS(narrow, narrow16)
PROGRAMS(wide, wide1)
PROGRAMS(wide, wide2)
PROGRAMS(narrow, waking4)
PROGRAMS(narrow, keeping2)
PROGRAMS(narrow, moving)
PROGRAMS(narrow, placed2)
PROGRAMS(narrow, placed4)

/* A tail of ctx[1] bytes. Writes both ends of its space, as a helper may that fails. */
#define PUSH_WITH_TAIL(ring)                                                         \
	SEC("syscall")                                                               \
	int push_##ring(__u64 *ctx)                                                  \
	{                                                                            \
		void *tail;                                                          \
		struct narrow *record = mapring_reserve(&ring);                      \
                                                                                     \
		if (!record)                                                         \
			return -1;                                                   \
		tail = mapring_tail(&ring, record);                                  \
		fill_narrow(record, ctx);                                            \
		((volatile __u64 *)tail)[0] = ctx[0];                                \
		((volatile __u64 *)tail)[7] = ctx[0];                                \
		return mapring_commit_tail(&ring, record, ctx[1]);              \
	}

PUSH_WITH_TAIL(tails4)
PUSH_WITH_TAIL(tails16)
PUSH_WITH_TAIL(tailed4)
PUSH_WITH_TAIL(kept4)
PUSH_WITH_TAIL(kept16)

/* ctx[1] is the index. */
SEC("syscall")
int set_cell(__u64 *ctx)
{
	struct wide value;

	fill_wide(&value, ctx);
	return mapring_cell_set(&cell, ctx[1], &value);
}

/* As its only writer. */
SEC("syscall")
int alone_cell(__u64 *ctx)
{
	struct wide *value = mapring_cell_begin_single_writer(&cell, ctx[1]);

	if (!value)
		return -1;
	fill_wide(value, ctx);
	mapring_cell_end(value);
	return 0;
}

/* Adds ctx[0] to the old value. */
SEC("syscall")
int update_cell(__u64 *ctx)
{
	struct wide *value = mapring_cell_begin(&cell, ctx[1]);

	if (!value)
		return -1;
	value->a += ctx[0];
	value->b += ctx[0];
	mapring_cell_end(value);
	return 0;
}

SEC("syscall")
int add_counters(__u64 *ctx)
{
	mapring_counter_add(&counters, ctx[1], ctx[0]);
	return 0;
}

SEC("syscall")
int add_histogram(__u64 *ctx)
{
	mapring_histogram_add(&histogram, ctx[1], ctx[0]);
	return 0;
}

/* ctx[0] is the time as well: a value of 20 bits in a window. */
SEC("syscall")
int set_gauge(__u64 *ctx)
{
	mapring_gauge_set_at(&gauge, ctx[1], ctx[0] & 0xfffff, ctx[0]);
	return 0;
}

SEC("syscall")
int add_top(__u64 *ctx)
{
	mapring_top_add(&top, ctx[0], ctx[1]);
	return 0;
}

/* Copies the value read into the context. */
SEC("syscall")
int read_latch(__u64 *ctx)
{
	struct wide value;

	if (mapring_latch_read(&latch, ctx[1], &value))
		return -1;
	ctx[0] = value.a;
	ctx[1] = value.b;
	return 0;
}

SEC("syscall")
int read_global_latch(__u64 *ctx)
{
	struct wide value;

	if (mapring_latch_read(&global_latch, &value))
		return -1;
	ctx[0] = value.a;
	ctx[1] = value.b;
	return 0;
}

SEC("syscall")
int set_global_cell(__u64 *ctx)
{
	struct wide value;

	fill_wide(&value, ctx);
	return mapring_cell_set(&global_cell, &value);
}

SEC("syscall")
int update_global_cell(__u64 *ctx)
{
	struct wide *value = mapring_cell_begin(&global_cell);

	if (!value)
		return -1;
	value->a += ctx[0];
	value->b += ctx[0];
	mapring_cell_end(value);
	return 0;
}

/* Writing: sets this CPU's cell to ctx[0]. Reading: cell ctx[1] of CPU ctx[0], into the context. */
SEC("syscall")
int use_percpu_cell(__u64 *ctx)
{
	struct wide value;

	if (ctx[1] == WRITE) {
		fill_wide(&value, ctx);
		return mapring_cell_set(&percpu_cell, 0, &value);
	}
	if (mapring_cell_read(&percpu_cell, ctx[0], ctx[1], &value))
		return -1;
	ctx[0] = value.a;
	ctx[1] = value.b;
	return 0;
}

/* Writing: adds ctx[0] to this CPU's first counter. Reading: counter ctx[1] of CPU ctx[0], into the context. */
SEC("syscall")
int use_percpu_counters(__u64 *ctx)
{
	if (ctx[1] == WRITE)
		mapring_counter_add(&percpu_counters, 0, ctx[0]);
	else
		ctx[0] = mapring_counter_read(&percpu_counters, ctx[0], ctx[1]);
	return 0;
}

/* Words of the header that nothing uses: what the commands change. */
static __always_inline __u64 *spare(void)
{
	return mapring__word(&commands, MAPRING__FIRST(sizeof(struct mapring_commands__commands)) + 3);
}

static void apply(const struct wide *command)
{
	__u64 *words = spare();

	if (words) {
		mapring__store(words, command->a);
		mapring__store(words + 1, command->b);
	}
}

/* An event: what it then sees is in the context. */
SEC("syscall")
int drain_commands(__u64 *ctx)
{
	__u64 *words = spare();

	mapring_commands_drain(&commands, apply);
	if (!words)
		return -1;
	ctx[0] = mapring__load(words);
	ctx[1] = mapring__load(words + 1);
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Records of many sizes in every kind of map, each byte with its own value, in both directions between programs and
 * userspace. Copies exist for the sizes that clang can copy (128 stores). */
#include <mapring/global.bpf.h>
#include <mapring/percpu.bpf.h>
#include <mapring/ring.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

/* Byte i of value n, as in tests/copies.rs. */
#define BYTE(n, i) ((__u8)((n) * 89 + (i) * 7 + ((i) >> 5) + 1))

struct rec_1 {
	__u8 bytes[1];
};

struct rec_7 {
	__u8 bytes[7];
};

struct rec_24 {
	__u8 bytes[24] __attribute__((aligned(8)));
};

struct rec_56 {
	__u8 bytes[56] __attribute__((aligned(8)));
};

struct rec_57 {
	__u8 bytes[57];
};

struct rec_1000 {
	__u8 bytes[1000] __attribute__((aligned(8)));
};

struct rec_4095 {
	__u8 bytes[4095];
};

#define FILL(r, n)                                                  \
	for (__u32 i = 0; i < sizeof(*(r)); i++)                    \
		((__u8 *)(r))[i] = BYTE(n, i)

#define IN_PLACE(ended, begin, end)    \
	r = (begin);                   \
	if (r) {                       \
		FILL(r, args->n);      \
		end;                   \
		args->done += (ended); \
	}

/* `done`: a bit for each record that was written. */
#define RECORD(size)                                                                             \
	MAPRING_RING(ring_##size, struct rec_##size, 8);                                         \
	MAPRING_CELLS(cells_##size, struct rec_##size, 3);                                       \
	MAPRING_PERCPU_CELLS(percpu_##size, struct rec_##size, 3);                               \
	MAPRING_LATCHES(latches_##size, struct rec_##size, 3);                                   \
	MAPRING_GLOBAL_CELL(cell_##size, struct rec_##size);                                     \
	MAPRING_GLOBAL_LATCH(latch_##size, struct rec_##size);                                   \
	SEC("syscall")                                                                           \
	int write_##size(struct args *args)                                                      \
	{                                                                                        \
		struct rec_##size *r;                                                            \
                                                                                                 \
		args->done = 0;                                                                  \
		IN_PLACE(1, mapring_reserve(&ring_##size), mapring_commit(&ring_##size, r))      \
		IN_PLACE(2, mapring_cell_begin(&cells_##size, 1), mapring_cell_end(r))           \
		IN_PLACE(4, mapring_cell_begin(&percpu_##size, 1), mapring_cell_end(r))          \
		IN_PLACE(8, mapring_cell_begin(&cell_##size), mapring_cell_end(r))               \
		return 0;                                                                        \
	}

/* A record with only the last byte written: the low byte of `n`. */
#define ZEROED(size)                                                                             \
	SEC("syscall")                                                                           \
	int zeroed_##size(struct args *args)                                                     \
	{                                                                                        \
		struct rec_##size *r = mapring_reserve_zeroed(&ring_##size);                     \
                                                                                                 \
		args->done = r != 0;                                                             \
		if (!r)                                                                          \
			return 0;                                                                \
		((__u8 *)r)[sizeof(*r) - 1] = args->n;                                           \
		mapring_commit(&ring_##size, r);                                                 \
		return 0;                                                                        \
	}

/* `done` as above, and a bit for each value read that is value n; 0 if one is anything else. */
#define COPIES(size)                                                                             \
	struct rec_##size ready_##size = {}, seen_##size = {};                                   \
	SEC("syscall")                                                                           \
	int copy_##size(struct args *args)                                                       \
	{                                                                                        \
		FILL(&ready_##size, args->n);                                                    \
		args->done = (mapring_output(&ring_##size, &ready_##size) == 0) +                \
			     (mapring_cell_set(&cells_##size, 1, &ready_##size) == 0) * 2 +      \
			     (mapring_cell_set(&percpu_##size, 1, &ready_##size) == 0) * 4 +     \
			     (mapring_cell_set(&cell_##size, &ready_##size) == 0) * 8;           \
		return 0;                                                                        \
	}                                                                                        \
	static __always_inline int is_##size(__u64 n)                                            \
	{                                                                                        \
		__u8 wrong = 0;                                                                  \
                                                                                                 \
		for (__u32 i = 0; i < sizeof(seen_##size); i++) {                                \
			wrong |= ((__u8 *)&seen_##size)[i] ^ BYTE(n, i);                         \
			((__u8 *)&seen_##size)[i] = 0;                                           \
		}                                                                                \
		return !wrong;                                                                   \
	}                                                                                        \
	SEC("syscall")                                                                           \
	int read_##size(struct args *args)                                                       \
	{                                                                                        \
		args->done = 0;                                                                  \
		if (mapring_latch_read(&latches_##size, 1, &seen_##size) == 0)                   \
			args->done += is_##size(args->n);                                        \
		if (mapring_latch_read(&latch_##size, &seen_##size) == 0)                        \
			args->done += is_##size(args->n) * 2;                                    \
		return 0;                                                                        \
	}                                                                                        \
	/* Needs a helper of Linux 5.19. */                                                      \
	SEC("syscall")                                                                           \
	int there_##size(struct args *args)                                                      \
	{                                                                                        \
		args->done = mapring_cell_read(&percpu_##size, args->op, 1, &seen_##size) == 0 && \
			     is_##size(args->n);                                                 \
		return 0;                                                                        \
	}

RECORD(1)
RECORD(7)
RECORD(24)
RECORD(56)
RECORD(57)
RECORD(1000)
RECORD(4095)
ZEROED(1)
ZEROED(7)
ZEROED(24)
ZEROED(56)
ZEROED(57)
ZEROED(1000)
ZEROED(4095)
COPIES(1)
COPIES(7)
COPIES(24)
COPIES(56)
COPIES(57)
COPIES(1000)

/* Values n, n + 1, ... one after the other in this CPU's cell and in a global one, `index` many (64 at most). All words
 * of a value are n. */
SEC("syscall")
int stream(struct args *args)
{
	for (__u32 k = 0; k < 64 && k < args->index; k++) {
		struct rec_1000 *r = mapring_cell_begin(&percpu_1000, 2);

		if (!r)
			return 0;
		for (__u32 i = 0; i < 125; i++)
			mapring__store((__u64 *)r + i, args->n + k);
		mapring_cell_end(r);
		r = mapring_cell_begin(&cell_1000);
		if (!r)
			return 0;
		for (__u32 i = 0; i < 125; i++)
			mapring__store((__u64 *)r + i, args->n + k);
		mapring_cell_end(r);
		args->done++;
	}
	return 0;
}

/* Reads the values of `stream` in the cell of CPU `op`, 64 times. Returns the number of whole ones in `n`, of torn ones
 * in `done`, and of reads that were overtaken too often in `index`. */
SEC("syscall")
int watch(struct args *args)
{
	__u64 *seen = (__u64 *)&seen_1000, cpu = args->op, whole = 0, mixed = 0, busy = 0;

	for (__u32 k = 0; k < 64; k++) {
		__u64 wrong = 0, first;

		if (mapring_cell_read(&percpu_1000, cpu, 2, &seen_1000)) {
			busy++;
			continue;
		}
		first = seen[0];
		for (__u32 i = 0; i < 125; i++)
			wrong |= seen[i] ^ first;
		mixed += !!wrong;
		whole += !wrong;
	}
	args->n = whole;
	args->done = mixed;
	args->index = busy;
	return 0;
}

/* Records of several cache lines, with all words equal to their number: `index` many (64 at most) from number n on, in
 * this CPU's shard and in a cell. `done`: how many. */
#define WIDE(size)                                                                       \
	struct wide_##size {                                                             \
		__u64 words[size / 8];                                                   \
	};                                                                               \
	MAPRING_RING(wide_ring_##size, struct wide_##size, 4);                           \
	MAPRING_CELLS(wide_cells_##size, struct wide_##size, 2);                         \
	SEC("syscall")                                                                   \
	int stream_##size(struct args *args)                                             \
	{                                                                                \
		__u64 n = args->n, many = args->index, done = 0;                         \
		struct wide_##size *r;                                                   \
                                                                                         \
		for (__u32 k = 0; k < 64 && k < many; k++) {                             \
			r = mapring_reserve(&wide_ring_##size);                          \
			if (!r)                                                          \
				break;                                                   \
			for (__u32 i = 0; i < size / 8; i++)                             \
				mapring__store(&r->words[i], n + k);                     \
			mapring_commit(&wide_ring_##size, r);                            \
			r = mapring_cell_begin(&wide_cells_##size, 1);                   \
			if (!r)                                                          \
				break;                                                   \
			for (__u32 i = 0; i < size / 8; i++)                             \
				mapring__store(&r->words[i], n + k);                     \
			mapring_cell_end(r);                                             \
			done++;                                                          \
		}                                                                        \
		args->done = done;                                                       \
		return 0;                                                                \
	}

WIDE(200)
WIDE(1000)

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Rings of each sort: with a program that is attached, and with records that nobody ends, so that later ones drop. */
#include <mapring/keep_oldest.bpf.h>
#include <mapring/numa.bpf.h>
#include <mapring/resizable.bpf.h>
#include <mapring/ring.bpf.h>
#include <mapring/tails.bpf.h>
#include <mapring/wakeable_tails.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

struct rec {
	__u64 n;
};

struct tailed {
	__u64 n;
};

struct kept_rec {
	__u64 n;
};

struct wide {
	__u64 n, words[5]; /* with its sequence 56 bytes: a header is one element and one word */
};

MAPRING_RING(calls, struct rec, 64);
MAPRING_RING(narrow, struct rec, 8); /* a header is four elements */
MAPRING_RING(wide, struct wide, 8);
MAPRING_NUMA_RING(nodes, struct rec, 8);
MAPRING_RESIZABLE_RING(grows, struct rec, 8);
MAPRING_RING_WITH_TAILS(paths, struct tailed, 8, 32, 1024);
MAPRING_RING_WITH_TAILS(spaces, struct tailed, 64, 64, 128);
MAPRING_KEEP_OLDEST_RING(kept, struct kept_rec, 8);
MAPRING_KEEP_OLDEST_RING_WITH_TAILS(kept_paths, struct tailed, 8, 32, 1024);
MAPRING_KEEP_OLDEST_RING_WITH_TAILS(kept_spaces, struct tailed, 64, 64, 1024);

SEC("raw_tp/sys_enter")
int on_call(void *ctx)
{
	struct rec *r = mapring_reserve(&calls);

	(void)ctx;
	if (r) {
		r->n = bpf_ktime_get_ns();
		mapring_commit(&calls, r);
	}
	return 0;
}

#define WRITE(ring, type)                                                \
	SEC("syscall")                                                   \
	int write_##ring(struct args *args)                              \
	{                                                                \
		struct type *r = mapring_reserve(&ring);                 \
                                                                         \
		args->done = !!r;                                        \
		if (r) {                                                 \
			r->n = args->n;                                  \
			if (!args->op) /* else nobody ends it */         \
				mapring_commit(&ring, r);                \
		}                                                        \
		return 0;                                                \
	}

WRITE(narrow, rec)
WRITE(wide, wide)
WRITE(nodes, rec)
WRITE(grows, rec)
WRITE(kept, kept_rec)

/* `index` is the length of the tail. */
#define WRITE_TAIL(ring)                                                 \
	SEC("syscall")                                                   \
	int write_##ring(struct args *args)                              \
	{                                                                \
		void *tail;                                              \
		struct tailed *r = mapring_reserve_with_tail(&ring, &tail); \
                                                                         \
		args->done = !!r;                                        \
		if (r) {                                                 \
			r->n = args->n;                                  \
			if (!args->op)                                   \
				args->done = !mapring_commit_tail(&ring, r, args->index); \
		}                                                        \
		return 0;                                                \
	}

WRITE_TAIL(paths)
WRITE_TAIL(spaces)
WRITE_TAIL(kept_paths)
WRITE_TAIL(kept_spaces)

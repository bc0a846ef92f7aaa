// SPDX-License-Identifier: MIT OR Apache-2.0
/* Rings of each sort: with a program that is attached, and with records that nobody ends, so that later ones drop. */
#include <mapring/ring.bpf.h>

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
MAPRING_RING(nodes, struct rec, 8, PER_CPU_MAPS);
MAPRING_RING(grows, struct rec, 8, RESIZABLE);
MAPRING_RING(paths, struct tailed, 8, TAILS(32, 1024));
MAPRING_RING(spaces, struct tailed, 64, TAILS(64, 128));
MAPRING_RING(kept, struct kept_rec, 8, KEEP_OLDEST);
MAPRING_RING(kept_paths, struct tailed, 8, KEEP_OLDEST, TAILS(32, 1024));
MAPRING_RING(kept_spaces, struct tailed, 64, KEEP_OLDEST, TAILS(64, 1024));

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
		struct tailed *r = mapring_reserve(&ring);               \
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

// SPDX-License-Identifier: MIT OR Apache-2.0
/* A ring with each set of options, for the test of what every ring owes. Tests run the programs by hand. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

#define SLOTS 64
#define LONGEST 64

struct rec {
	__u64 n, twice;
};

enum { COMMIT, DISCARD, ABANDON };

struct args {
	__u64 n;
	__u64 end;
};

/* In one map, and in a map for each CPU. `PROGRAM` is for rings without tails, or with. */
#define BOTH(name, PROGRAM, ...)                                                          \
	MAPRING_RING(name, struct rec, SLOTS, ##__VA_ARGS__);                             \
	PROGRAM(name)                                                                     \
	MAPRING_RING(name##_of_cpu, struct rec, SLOTS, PER_CPU_MAPS, ##__VA_ARGS__);      \
	PROGRAM(name##_of_cpu)

/* Publishes a record, discards it, or never ends it. Returns whether it reserved one. */
#define PLAIN(name)                                                                       \
	SEC("syscall")                                                                    \
	int push_##name(struct args *args)                                                \
	{                                                                                 \
		struct rec *rec = mapring_reserve(&name);                                 \
                                                                                          \
		if (!rec)                                                                 \
			return 0;                                                         \
		rec->n = args->n;                                                         \
		rec->twice = 2 * rec->n;                                                  \
		if (args->end == COMMIT)                                                  \
			mapring_commit(&name, rec);                                       \
		else if (args->end == DISCARD)                                            \
			mapring_discard(&name, rec);                                      \
		return 1;                                                                 \
	}

/* The same; the tail of record `n` has n mod 65 bytes, all of them n. */
#define TAILED(name)                                                                      \
	SEC("syscall")                                                                    \
	int push_##name(struct args *args)                                                \
	{                                                                                 \
		struct rec *rec = mapring_reserve(&name);                                 \
		__u64 *tail, n = args->n;                                                 \
                                                                                          \
		if (!rec)                                                                 \
			return 0;                                                         \
		rec->n = n;                                                               \
		rec->twice = 2 * n;                                                       \
		tail = mapring_tail(&name, rec);                                          \
		for (int word = 0; word < LONGEST / 8; word++)                            \
			tail[word] = (n & 0xff) * 0x0101010101010101ULL;                  \
		if (args->end == COMMIT)                                                  \
			mapring_commit_tail(&name, rec, n % (LONGEST + 1));               \
		else if (args->end == DISCARD)                                            \
			mapring_discard(&name, rec);                                      \
		return 1;                                                                 \
	}

BOTH(plain, PLAIN)
BOTH(wakes, PLAIN, WAKEABLE)
BOTH(keeps, PLAIN, KEEP_OLDEST)
BOTH(tails, TAILED, TAILS(LONGEST, 16384))
BOTH(wakes_tails, TAILED, TAILS(LONGEST, 16384), WAKEABLE)
BOTH(keeps_tails, TAILED, KEEP_OLDEST, TAILS(LONGEST, 16384))
MAPRING_RING(grows, struct rec, SLOTS, RESIZABLE);
PLAIN(grows)

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
#define PUSH(name)                                                                        \
	SEC("syscall")                                                                    \
	int push_##name(struct args *args)                                                \
	{                                                                                 \
		return put_##name(args->n, args->end);                                    \
	}

#define PLAIN(name)                                                                       \
	__attribute__((noinline)) int put_##name(__u64 n, __u64 end)                      \
	{                                                                                 \
		struct rec *rec = mapring_reserve(&name);                                 \
                                                                                          \
		if (!rec)                                                                 \
			return 0;                                                         \
		rec->n = n;                                                               \
		rec->twice = 2 * n;                                                       \
		if (end == COMMIT)                                                        \
			mapring_commit(&name, rec);                                       \
		else if (end == DISCARD)                                                  \
			mapring_discard(&name, rec);                                      \
		return 1;                                                                 \
	}                                                                                 \
	PUSH(name)

/* The same; the tail of record `n` has n mod 65 bytes, all of them n. */
#define TAILED(name)                                                                      \
	__attribute__((noinline)) int put_##name(__u64 n, __u64 end)                      \
	{                                                                                 \
		struct rec *rec = mapring_reserve(&name);                                 \
		__u64 *tail;                                                              \
                                                                                          \
		if (!rec)                                                                 \
			return 0;                                                         \
		rec->n = n;                                                               \
		rec->twice = 2 * n;                                                       \
		tail = mapring_tail(&name, rec);                                          \
		for (int word = 0; word < LONGEST / 8; word++)                            \
			tail[word] = (n & 0xff) * 0x0101010101010101ULL;                  \
		if (end == COMMIT)                                                        \
			mapring_commit_tail(&name, rec, n % (LONGEST + 1));               \
		else if (end == DISCARD)                                                  \
			mapring_discard(&name, rec);                                      \
		return 1;                                                                 \
	}                                                                                 \
	PUSH(name)

BOTH(plain, PLAIN)
BOTH(wakes, PLAIN, WAKEABLE)
BOTH(keeps, PLAIN, KEEP_OLDEST)
BOTH(tails, TAILED, TAILS(LONGEST, 16384))
BOTH(wakes_tails, TAILED, TAILS(LONGEST, 16384), WAKEABLE)
BOTH(keeps_tails, TAILED, KEEP_OLDEST, TAILS(LONGEST, 16384))
MAPRING_RING(grows, struct rec, SLOTS, RESIZABLE);
PLAIN(grows)
MAPRING_RING(wakes_grows, struct rec, SLOTS, RESIZABLE, WAKEABLE);
PLAIN(wakes_grows)

/* All of them, in this order, in two halves: Linux gives up a program that writes to each of them. */
#define FIRST(DO) DO(plain) DO(wakes) DO(keeps) DO(tails) DO(wakes_tails) DO(keeps_tails)
#define SECOND(DO)                                                                        \
	DO(plain_of_cpu) DO(wakes_of_cpu) DO(keeps_of_cpu) DO(tails_of_cpu)               \
	DO(wakes_tails_of_cpu) DO(keeps_tails_of_cpu) DO(grows) DO(wakes_grows)

#define AT(name) AT_##name,
enum { FIRST(AT) SECOND(AT) RINGS };
/* Programs that interrupt each other. */
enum { TASK, CALL, CLOCK, WRITERS };

/* The records that each writer began in each ring, and those of them that were dropped. */
struct did {
	__u64 begun, dropped;
} did[RINGS][WRITERS] SEC(".data.did") = {};
/* The process whose system calls are recorded. */
__u32 watched;

#define WRITE(name)                                                                       \
	n = __sync_fetch_and_add(&did[AT_##name][writer].begun, 1);                       \
	if (!put_##name((__u64)writer << 32 | n, COMMIT))                                 \
		(void)__sync_fetch_and_add(&did[AT_##name][writer].dropped, 1);

/* Programs that each write the next record of their writer to each ring of a half. */
#define WRITERS_OF(half, HALF)                                                            \
	static __always_inline int write_##half(const __u32 writer)                       \
	{                                                                                 \
		__u64 n;                                                                  \
                                                                                          \
		HALF(WRITE)                                                               \
		return 0;                                                                 \
	}                                                                                 \
                                                                                          \
	SEC("syscall")                                                                    \
	int on_task_##half(void *ctx __attribute__((unused)))                             \
	{                                                                                 \
		return write_##half(TASK);                                                \
	}                                                                                 \
                                                                                          \
	SEC("raw_tp/sys_enter")                                                           \
	int on_call_##half(void *ctx __attribute__((unused)))                             \
	{                                                                                 \
		return bpf_get_current_pid_tgid() >> 32 == watched ? write_##half(CALL) : 0; \
	}                                                                                 \
                                                                                          \
	SEC("perf_event")                                                                 \
	int on_clock_##half(void *ctx __attribute__((unused)))                            \
	{                                                                                 \
		return write_##half(CLOCK);                                               \
	}

WRITERS_OF(first, FIRST)
WRITERS_OF(second, SECOND)

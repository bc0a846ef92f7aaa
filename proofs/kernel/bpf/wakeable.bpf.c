// SPDX-License-Identifier: MIT OR Apache-2.0
/* Rings that wake their readers. Tests run the programs by hand. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct rec {
	__u64 n, twice;
};

MAPRING_RING(events, struct rec, 64, WAKEABLE);
MAPRING_RING(small, struct rec, 1, WAKEABLE);
MAPRING_RING(tailed, struct rec, 64, WAKEABLE, TAILS(64, 16384));

struct args {
	__u64 n;
	__u32 count;
	__u32 discard;
};

/* Publishes (or discards) `count` records. */
SEC("syscall")
int publish(struct args *args)
{
	for (__u32 i = 0; i < 64 && i < args->count; i++) {
		struct rec *rec = mapring_reserve(&events);

		if (!rec)
			return 1;
		rec->n = args->n + i;
		rec->twice = 2 * rec->n;
		if (args->discard)
			mapring_discard(&events, rec);
		else
			mapring_commit(&events, rec);
	}
	return 0;
}

/* The same with tails: the number of the record. */
SEC("syscall")
int publish_tailed(struct args *args)
{
	for (__u32 i = 0; i < 64 && i < args->count; i++) {
		struct rec *rec = mapring_reserve(&tailed);

		if (!rec)
			return 1;
		rec->n = args->n + i;
		rec->twice = 2 * rec->n;
		*(__u64 *)mapring_tail(&tailed, rec) = rec->n;
		if (args->discard)
			mapring_discard(&tailed, rec);
		else
			mapring_commit_tail(&tailed, rec, 8);
	}
	return 0;
}

/* As if no reader had said for long that it sleeps. */
static __always_inline int nobody_slept(void *readers)
{
	__u64 *words = mapring__word(readers, 0);

	if (words)
		mapring__store(words + MAPRING__IDLE_SINCE, bpf_ktime_get_ns() - MAPRING__IDLE - 1);
	return 0;
}

SEC("syscall")
int nobody_slept_in_events(void *ctx __attribute__((unused)))
{
	return nobody_slept(&events__readers);
}

SEC("syscall")
int nobody_slept_in_tailed(void *ctx __attribute__((unused)))
{
	return nobody_slept(&tailed__readers);
}

/* Reserves a record now, and commits it in a later call, as a program does that is preempted in between. */
SEC("syscall")
int leave_open(struct args *args)
{
	struct rec *rec = mapring_reserve(&events);

	if (rec)
		rec->n = args->n, rec->twice = 2 * args->n;
	return !rec;
}

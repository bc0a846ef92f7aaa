// SPDX-License-Identifier: MIT OR Apache-2.0
/* Programs that count values in histograms: run by hand, in a loop, and interrupting each other. */
#include <mapring/histogram.bpf.h>

#define MAP_TYPE_PERCPU_ARRAY 6

char LICENSE[] SEC("license") = "GPL";

MAPRING_HISTOGRAMS(histograms, 3);
MAPRING_HISTOGRAM(together);

/* What the programs below did on a CPU, counted without the library. */
struct did {
	__u64 inside; /* the task is in its loop */
	__u64 tasks, ticks;
	__u64 interrupted; /* ticks inside of a loop */
};

struct {
	__uint(type, MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct did);
} did SEC(".maps");

struct args {
	__u64 index, value;
};

SEC("syscall")
int add(struct args *args)
{
	mapring_histogram_add(&histograms, args->index, args->value);
	return 0;
}

/* Values that a program adds: each costs the verifier of Linux 5.15 a thousand instructions, and its limit is a million. */
#define MANY 256

/* The values from `value` on. */
SEC("syscall")
int add_many(struct args *args)
{
	for (__u64 i = 0; i < MANY; i++)
		mapring_histogram_add(&histograms, args->index, args->value + i);
	return 0;
}

static __always_inline struct did *here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&did, &zero);
}

SEC("syscall")
int task(struct args *args)
{
	struct did *did = here();

	if (!did)
		return 0;
	mapring__store(&did->inside, 1);
	for (__u64 i = 0; i < MANY; i++)
		mapring_histogram_add(&together, 0, args->value);
	mapring__store(&did->inside, 0);
	did->tasks += MANY;
	return 0;
}

/* Counts the same value as the task. */
SEC("perf_event")
int tick(void *ctx __attribute__((unused)))
{
	struct did *did = here();

	if (!did)
		return 0;
	for (int i = 0; i < 16; i++)
		mapring_histogram_add(&together, 0, 1000);
	did->ticks += 16;
	did->interrupted += mapring__load(&did->inside);
	return 0;
}

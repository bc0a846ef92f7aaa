// SPDX-License-Identifier: MIT OR Apache-2.0
/* Programs that set gauges: run by hand, in a loop, and interrupting each other. */
#include <mapring/gauge.bpf.h>

#define MAP_TYPE_PERCPU_ARRAY 6

char LICENSE[] SEC("license") = "GPL";

MAPRING_GAUGES(gauges, 3);
MAPRING_GAUGE(together);

/* What the programs below did on a CPU, counted without the library. */
struct did {
	__u64 inside; /* the task is in its loop */
	__u64 interrupted; /* ticks inside of a loop */
	__u64 number; /* of the next value */
};

struct {
	__uint(type, MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct did);
} did SEC(".maps");

struct args {
	__u64 index, value, ns;
};

SEC("syscall")
int set_at(struct args *args)
{
	mapring_gauge_set_at(&gauges, args->index, args->value, args->ns);
	return 0;
}

/* Returns the time. */
SEC("syscall")
int set_now(struct args *args)
{
	mapring_gauge_set(&gauges, args->index, args->value);
	args->ns = bpf_ktime_get_ns();
	return 0;
}

static __always_inline struct did *here(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&did, &zero);
}

/* Around 2^20, a little further away each time, in turns above and below. All are in the same window. */
static __always_inline void set_next(struct did *did, __u64 by)
{
	mapring__count(&did->number, by);
	mapring_gauge_set_at(&together, 0, (1 << 20) + did->number, 0);
	mapring_gauge_set_at(&together, 0, (1 << 20) - did->number, 0);
}

SEC("syscall")
int task(struct args *args __attribute__((unused)))
{
	struct did *did = here();

	if (!did)
		return 0;
	mapring__store(&did->inside, 1);
	for (int i = 0; i < 128; i++)
		set_next(did, 1);
	mapring__store(&did->inside, 0);
	return 0;
}

SEC("perf_event")
int tick(void *ctx __attribute__((unused)))
{
	struct did *did = here();

	if (!did)
		return 0;
	set_next(did, 2);
	did->interrupted += mapring__load(&did->inside);
	return 0;
}

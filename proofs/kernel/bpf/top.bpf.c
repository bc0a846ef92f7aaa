// SPDX-License-Identifier: MIT OR Apache-2.0
/* Programs that count top keys: run by hand, in a loop, and interrupting each other. */
#include <mapring/top.bpf.h>

#define MAP_TYPE_ARRAY 2
#define KEYS 1024

char LICENSE[] SEC("license") = "GPL";

MAPRING_TOP_KEYS(table, 16);
MAPRING_TOP_KEYS(together, 1); /* all programs of a CPU meet in one bucket */

/* What was added to each key of `together`, counted without the library. */
struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(max_entries, KEYS);
	__type(key, __u32);
	__type(value, __u64);
} exact SEC(".maps");

struct args {
	__u64 key, amount;
};

SEC("syscall")
int add(struct args *args)
{
	mapring_top_add(&table, args->key, args->amount);
	return 0;
}

/* Adds to a key: small numbers are frequent. */
static __always_inline void add_some(__u64 random)
{
	__u32 key = random >> 32 & random >> 42 & (KEYS - 1);
	__u64 amount = 1 + (random >> 20 & 7), *count = bpf_map_lookup_elem(&exact, &key);

	if (count)
		__sync_fetch_and_add(count, amount);
	mapring_top_add(&together, key, amount);
}

SEC("syscall")
int task(struct args *args)
{
	for (__u64 i = 0; i < 64; i++)
		add_some((args->key + i) * 0x9e3779b97f4a7c15ULL);
	return 0;
}

SEC("perf_event")
int tick(void *ctx __attribute__((unused)))
{
	__u64 now = bpf_ktime_get_ns();

	for (__u64 i = 0; i < 4; i++)
		add_some((now + i) * 0xd1b54a32d192ed03ULL);
	return 0;
}

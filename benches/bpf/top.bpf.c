// SPDX-License-Identifier: MIT OR Apache-2.0
/* The keys that have most, of many: mapring's top keys, and the usual hash map with one value per CPU. */
#include <mapring/top.bpf.h>

#define ADDITIONS 64 /* per run */
#define BPF_MAP_TYPE_PERCPU_HASH 5

char LICENSE[] SEC("license") = "GPL";

MAPRING_TOP_KEYS(top, 256);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64);
	__type(value, __u64);
} percpu SEC(".maps");

/* A run. Input: the first addition's number. Output: the nanoseconds of the loop. */
struct run {
	__u64 first;
	__u64 ns;
};

/* The key of addition n: one of 8192, small ones often. */
static __always_inline __u64 key_of(__u64 n)
{
	n *= 0x9e3779b97f4a7c15ULL;
	asm volatile("" : "+r"(n));
	return n >> 20 & n >> 40 & 8191;
}

static __always_inline void by_top(__u64 key)
{
	mapring_top_add(&top, key, 1);
}

static __always_inline void by_percpu(__u64 key)
{
	__u64 one = 1, *own = bpf_map_lookup_elem(&percpu, &key);

	if (own)
		mapring__count(own, 1);
	else
		bpf_map_update_elem(&percpu, &key, &one, 0);
}

#define OBSERVE(name, add)                                        \
	SEC("syscall") int name(struct run *run)                  \
	{                                                         \
		__u64 first = run->first;                         \
		__u64 start = bpf_ktime_get_ns();                 \
                                                                  \
		for (__u32 i = 0; i < ADDITIONS; i++)             \
			add(key_of(first + i));                   \
		run->ns = bpf_ktime_get_ns() - start;             \
		return 0;                                         \
	}

OBSERVE(observe_top, by_top)
OBSERVE(observe_percpu, by_percpu)

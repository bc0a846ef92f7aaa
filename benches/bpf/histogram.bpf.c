// SPDX-License-Identifier: MIT OR Apache-2.0
/* A histogram with 8 buckets for each power of two: mapring's, and the usual array with one value per CPU. */
#include <mapring/histogram.bpf.h>

#define BUCKETS MAPRING__HISTOGRAM_BUCKETS
#define VALUES 1024 /* per run */
#define BPF_MAP_TYPE_PERCPU_ARRAY 6

char LICENSE[] SEC("license") = "GPL";

MAPRING_HISTOGRAM(histogram);

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BUCKETS);
	__type(key, __u32);
	__type(value, __u64);
} percpu SEC(".maps");

/* A run. Input: the first value's number. Output: the nanoseconds of the loop. */
struct run {
	__u64 first;
	__u64 ns;
};

/* Value number n, of any length up to 64 bits. Computed from n alone, so that the loop needs few registers. */
static __always_inline __u64 value(__u64 n)
{
	asm volatile("" : "+r"(n));
	return n * 0x9e3779b97f4a7c15ULL >> (n * 7 & 63);
}

static __always_inline void by_histogram(__u64 value)
{
	mapring_histogram_add(&histogram, 0, value);
}

/* The same bucket. */
static __always_inline void by_percpu(__u64 value)
{
	__u32 bucket = mapring__bucket(value);
	__u64 *own = bpf_map_lookup_elem(&percpu, &bucket);

	if (own)
		mapring__count(own, 1);
}

#define OBSERVE(name, add)                                        \
	SEC("syscall") int name(struct run *run)                  \
	{                                                         \
		__u64 first = run->first;                         \
		__u64 start = bpf_ktime_get_ns();                 \
                                                                  \
		for (__u32 i = 0; i < VALUES; i++)                \
			add(value(first + i));                    \
		run->ns = bpf_ktime_get_ns() - start;             \
		return 0;                                         \
	}

OBSERVE(observe_histogram, by_histogram)
OBSERVE(observe_percpu, by_percpu)

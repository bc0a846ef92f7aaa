// SPDX-License-Identifier: MIT OR Apache-2.0
/* A histogram by powers of two: mapring's counters, and the usual array with one value per CPU. */
#include <mapring/counters.bpf.h>

#define BUCKETS 64
#define VALUES 1024 /* per run */
#define BPF_MAP_TYPE_PERCPU_ARRAY 6

char LICENSE[] SEC("license") = "GPL";

MAPRING_COUNTERS(histogram, BUCKETS);

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

/* The position of the highest set bit, without branches: the verifier would follow every branch. */
static __always_inline __u32 log2(__u64 value)
{
	for (int shift = 1; shift < 64; shift *= 2)
		value |= value >> shift;
	value >>= 1;
	value -= value >> 1 & 0x5555555555555555ULL;
	value = (value & 0x3333333333333333ULL) + (value >> 2 & 0x3333333333333333ULL);
	value = (value + (value >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
	return value * 0x0101010101010101ULL >> 56 & (BUCKETS - 1);
}

/* Value number n, of any length up to 64 bits. */
static __always_inline __u64 value(__u64 n)
{
	return n * 0x9e3779b97f4a7c15ULL >> (n * 7 & 63);
}

static __always_inline void by_counters(__u32 bucket)
{
	mapring_counter_inc(&histogram, bucket);
}

static __always_inline void by_percpu(__u32 bucket)
{
	__u64 *own = bpf_map_lookup_elem(&percpu, &bucket);

	if (own)
		mapring__count(own, 1);
}

#define OBSERVE(name, count)                                      \
	SEC("syscall") int name(struct run *run)                  \
	{                                                         \
		__u64 first = run->first;                         \
		__u64 start = bpf_ktime_get_ns();                 \
                                                                  \
		for (__u32 i = 0; i < VALUES; i++)                \
			count(log2(value(first + i)));            \
		run->ns = bpf_ktime_get_ns() - start;             \
		return 0;                                         \
	}

OBSERVE(observe_counters, by_counters)
OBSERVE(observe_percpu, by_percpu)

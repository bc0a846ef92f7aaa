// SPDX-License-Identifier: MIT OR Apache-2.0
/* Latest values and counters: mapring's maps, and maps that are read by system calls. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>

#define COUNTERS 1024
#define BPF_MAP_TYPE_PERCPU_ARRAY 6

char LICENSE[] SEC("license") = "GPL";

struct value {
	__u64 words[7];
};

MAPRING_CELLS(cells, struct value, 4);
MAPRING_COUNTERS(counters, COUNTERS);

/* The usual ways to count: one array for all CPUs, and one with a value per CPU. */
struct {
	__uint(type, MAPRING__MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, COUNTERS);
	__type(key, __u32);
	__type(value, __u64);
} percpu SEC(".maps");

/* A run's context: the values to write. */
struct run {
	__u64 n;
};

SEC("syscall")
int set_cell(struct run *run)
{
	struct value value;

	for (int i = 0; i < 7; i++)
		value.words[i] = run->n + i;
	return mapring_cell_set(&cells, 2, &value) ? 1 : 0;
}

/* Adds i + n to counter i of every kind. */
SEC("syscall")
int count(struct run *run)
{
	__u64 n = run->n;

	for (__u32 i = 0; i < COUNTERS; i++) {
		__u32 key = i;
		__u64 *shared = bpf_map_lookup_elem(&array, &key);
		__u64 *own = bpf_map_lookup_elem(&percpu, &key);

		mapring_counter_add(&counters, i, i + n);
		if (shared)
			mapring__count(shared, i + n);
		if (own)
			mapring__count(own, i + n);
	}
	return 0;
}

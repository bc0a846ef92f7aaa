// SPDX-License-Identifier: MIT OR Apache-2.0
/* Maps that libbpf and aya both load: mapring's regions, and arrays without mapring. */
#define MAPRING_NO_GUARD /* aya does not support objects with kernel functions */
#include <mapring/ring.bpf.h>
#include <mapring/percpu.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct xdp_md {
	__u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

struct sample {
	__u64 number;
	__u32 twice, cpu;
};

MAPRING_RING(ring, struct sample, 64);
MAPRING_RING(placed, struct sample, 64, PER_CPU_MAPS);
MAPRING_RING(moving, struct sample, 64, RESIZABLE);
MAPRING_CELLS(cells, struct sample, 4);
MAPRING_COUNTERS(counters, 3);
MAPRING_PERCPU_CELLS(percpu_cells, struct sample, 2);
MAPRING_PERCPU_COUNTERS(percpu_counters, 3);

#define PLAIN(name, map_type, value_type, flags)  \
	struct {                                  \
		__uint(type, map_type);           \
		__uint(map_flags, flags);         \
		__uint(max_entries, 3);           \
		__type(key, __u32);               \
		__type(value, value_type);        \
	} name SEC(".maps")

PLAIN(samples, 2, struct sample, MAPRING__F_MMAPABLE);
PLAIN(unmapped, 2, struct sample, 0);
PLAIN(percpu_samples, 6, struct sample, 0);
PLAIN(numbers, 2, __u32, MAPRING__F_MMAPABLE);

__u64 number = 0;

static __always_inline void fill(struct sample *sample)
{
	if (!sample)
		return;
	sample->number = number;
	sample->twice = 2 * number;
	sample->cpu = bpf_get_smp_processor_id();
}

#define RECORD(ring)                      \
	sample = mapring_reserve(&ring);  \
	if (sample) {                     \
		fill(sample);             \
		mapring_commit(&ring, sample); \
	}

/* Writes packet number n everywhere; in the plain arrays at index 1. */
SEC("xdp")
int on_packet(struct xdp_md *ctx)
{
	__u32 one = 1, *plain;
	struct sample *sample;

	(void)ctx;
	__sync_fetch_and_add(&number, 1);
	RECORD(ring);
	RECORD(placed);
	RECORD(moving);
	sample = mapring_cell_begin(&cells, 2);
	if (sample) {
		fill(sample);
		mapring_cell_end(sample);
	}
	sample = mapring_cell_begin(&percpu_cells, 1);
	if (sample) {
		fill(sample);
		mapring_cell_end(sample);
	}
	mapring_counter_inc(&counters, 2);
	mapring_counter_inc(&percpu_counters, 2);
	fill(bpf_map_lookup_elem(&samples, &one));
	fill(bpf_map_lookup_elem(&unmapped, &one));
	fill(bpf_map_lookup_elem(&percpu_samples, &one));
	plain = bpf_map_lookup_elem(&numbers, &one);
	if (plain)
		*plain = number;
	return 2;
}

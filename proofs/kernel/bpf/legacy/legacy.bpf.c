// SPDX-License-Identifier: MIT OR Apache-2.0
/* Maps declared as before BTF, which libbpf no longer accepts and aya does: only the caller can describe their content.
 * The cells are written by hand, as docs/abi.md specifies. */
#include <mapring/cell.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct xdp_md {
	__u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

struct bpf_map_def {
	__u32 type, key_size, value_size, max_entries, map_flags;
};

struct sample {
	__u64 number;
	__u32 twice, cpu;
};

struct cell {
	__u64 seq;
	struct sample sample;
};

#define ENTRIES(count) (MAPRING__FIRST(sizeof(struct cell)) + (count))

struct bpf_map_def SEC("maps") cells = { 2, 4, sizeof(struct cell), ENTRIES(4), MAPRING__F_MMAPABLE };
struct bpf_map_def SEC("maps") percpu_cells = { 6, 4, sizeof(struct cell), ENTRIES(2), 0 };
struct bpf_map_def SEC("maps") percpu_counters = { 6, 4, 64, 3, 0 };
struct bpf_map_def SEC("maps") samples = { 2, 4, sizeof(struct sample), 3, MAPRING__F_MMAPABLE };
struct bpf_map_def SEC("maps") percpu_samples = { 6, 4, sizeof(struct sample), 3, 0 };

static __always_inline void fill(struct sample *sample, __u64 number)
{
	sample->number = number;
	sample->twice = 2 * number;
	sample->cpu = bpf_get_smp_processor_id();
}

static __always_inline void write(void *map, __u32 index)
{
	struct cell *cell;

	index += MAPRING__FIRST(sizeof(struct cell));
	cell = bpf_map_lookup_elem(map, &index);
	if (!cell)
		return;
	*(volatile __u64 *)&cell->seq = cell->seq + 1;
	asm volatile("" ::: "memory");
	fill(&cell->sample, cell->seq / 2 + 1);
	asm volatile("" ::: "memory");
	*(volatile __u64 *)&cell->seq = cell->seq + 1;
}

SEC("xdp")
int on_packet(struct xdp_md *ctx)
{
	struct sample *sample;
	__u32 one = 1, two = 2;
	__u64 *bank;

	(void)ctx;
	write(&cells, 2);
	write(&percpu_cells, 1);
	sample = bpf_map_lookup_elem(&samples, &one);
	if (sample)
		fill(sample, sample->number + 1);
	sample = bpf_map_lookup_elem(&percpu_samples, &one);
	if (sample)
		fill(sample, sample->number + 1);
	bank = bpf_map_lookup_elem(&percpu_counters, &two);
	if (bank)
		bank[2]++;
	return 2;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* For tests of the command: values of 8 bytes whose types have very many parts. */
#include <mapring/cell.bpf.h>
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct nothing {};

#define NEXT(name, of) \
	struct name {  \
		of next; \
	}

struct d0 {
	struct nothing all[1 << 30];
};
NEXT(d1, struct d0);
NEXT(d2, struct d1);
NEXT(d3, struct d2);
NEXT(d4, struct d3);
NEXT(d5, struct d4);
NEXT(d6, struct d5);
NEXT(d7, struct d6);
NEXT(d8, struct d7);
NEXT(d9, struct d8);
NEXT(d10, struct d9);
NEXT(d11, struct d10);
NEXT(d12, struct d11);
NEXT(d13, struct d12);

/* Arrays of arrays of structs without bytes. */
struct huge_arrays {
	__u64 n;
	struct nothing all[100][100][100][100][100][100][100][100][100][100][100][100][100][100];
};

/* Structs in structs, and elements without bytes in the last one. */
struct huge_structs {
	__u64 n;
	struct d13 deep;
};

MAPRING_RING(t_huge_ring, struct huge_arrays, 64);
MAPRING_RING(t_huge_deep_ring, struct huge_structs, 64);
MAPRING_CELLS(t_huge_cells, struct huge_arrays, 4);
MAPRING_CELLS(t_huge_deep, struct huge_structs, 4);

/* Many values, each with many parts. */
struct wide {
	__u16 all[16000];
};

struct {
	__uint(type, 2); /* BPF_MAP_TYPE_ARRAY */
	__uint(max_entries, 2048);
	__type(key, __u32);
	__type(value, struct wide);
} t_huge_wide SEC(".maps");

SEC("syscall")
int publish(__u64 *n)
{
	struct huge_arrays arrays = { .n = *n };
	struct huge_structs structs = { .n = *n };

	mapring_output(&t_huge_ring, &arrays);
	mapring_output(&t_huge_deep_ring, &structs);
	mapring_cell_set(&t_huge_cells, 1, &arrays);
	mapring_cell_set(&t_huge_deep, 1, &structs);
	return 0;
}

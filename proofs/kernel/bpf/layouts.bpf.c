// SPDX-License-Identifier: MIT OR Apache-2.0
/* Values of every layout in C, to compare with Rust's: tests/layouts.rs. */
#include <mapring/latch.bpf.h>
#include <mapring/percpu.bpf.h>
#include <mapring/ring.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

struct pair {
	__u32 first, second;
};

/* 7 bytes of padding after `kind`, 4 at the end. */
struct padded {
	__u8 kind;
	__u64 ns;
	__u32 pid;
};

/* No padding: 13 bytes. */
struct packed {
	__u8 kind;
	__u64 ns;
	__u32 pid;
} __attribute__((packed));

struct arrays {
	__u32 matrix[2][3];
	char comm[16];
	struct pair pairs[2];
};

struct nested {
	__u64 ns;
	union {
		__u32 pid;
		__u32 thread;
	};
	__u16 port;
	char comm[6];
	struct pair pair;
};

enum mode { OFF, ON };
enum wide { NEAR, FAR = 1ULL << 40 };

struct numbers {
	double ratio;
	void *where;
	enum wide wide;
	enum mode mode;
	_Bool yes;
	__s8 sign;
	const volatile __u16 quick;
};

struct bits {
	__u32 plain;
	__u32 flag : 1;
	__u32 level : 7;
	__u64 after;
};

MAPRING_RING(ring, struct nested, 8);
MAPRING_CELLS(padded, struct padded, 1);
MAPRING_CELLS(packed, struct packed, 1);
MAPRING_CELLS(arrays, struct arrays, 1);
MAPRING_CELLS(numbers, struct numbers, 1);
MAPRING_CELLS(bits, struct bits, 1);
MAPRING_CELLS(cells, struct pair, 2);
MAPRING_LATCHES(latches, struct pair, 2);
MAPRING_PERCPU_CELLS(percpu, struct pair, 2);

SEC("syscall")
int write(struct args *args)
{
	struct nested *r = mapring_reserve(&ring);
	struct packed *packed_now = mapring_cell_begin(&packed, 0);
	struct pair *p = mapring_cell_begin(&cells, 0);

	if (packed_now) {
		packed_now->kind = 1;
		packed_now->ns = args->n;
		packed_now->pid = 8;
		mapring_cell_end(packed_now);
	}
	if (p) {
		p->first = 3;
		p->second = 4;
		mapring_cell_end(p);
	}
	if (!r)
		return 0;
	r->ns = args->n;
	r->pid = 8;
	r->port = 9;
	r->pair.first = 3;
	r->pair.second = 4;
	__builtin_memset(r->comm, 'c', sizeof(r->comm));
	mapring_commit(&ring, r);
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Values with a lock, which the kernel hides: some overlap the region's own words, some do not. */
#include <mapring/cell.bpf.h>
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct bpf_spin_lock {
	__u32 val;
};

/* At the second word of an element, the position of the preamble's second word. */
struct lock_first {
	struct bpf_spin_lock lock;
	__u32 words[13];
};

/* Inside another struct, at the position of the preamble's count. */
struct inner {
	__u32 before;
	struct bpf_spin_lock lock;
};

struct lock_in_count {
	__u64 words[11];
	struct inner inner;
	__u64 rest[4];
};

/* After all of it. */
struct lock_last {
	__u64 words[16];
	struct bpf_spin_lock lock;
	__u32 pad;
};

MAPRING_RING(first_ring, struct lock_first, 8);
MAPRING_CELLS(first_cells, struct lock_first, 4);
MAPRING_CELLS(count_cells, struct lock_in_count, 4);
MAPRING_RING(last_ring, struct lock_last, 8);

SEC("syscall")
int write(void *ctx)
{
	struct lock_last *r = mapring_reserve(&last_ring);

	(void)ctx;
	if (!r)
		return 0;
	__builtin_memset(r->words, 7, sizeof(r->words));
	mapring_commit(&last_ring, r);
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Records into an arena: memory that programs and userspace share, without a protocol. Its pointers need the address
 * spaces of clang 19; the other programs support older clangs. */
#include "producers.h"

#define BPF_MAP_TYPE_ARENA 33
#define __arena __attribute__((address_space(1)))
#define PAGES ((SLOTS + 64) * 64 / 4096)

struct {
	__uint(type, BPF_MAP_TYPE_ARENA);
	__uint(map_flags, 1 << 10); /* BPF_F_MMAPABLE */
	__uint(max_entries, PAGES);
	__ulong(map_extra, 1UL << 44); /* the address in userspace */
} arena SEC(".maps");

struct slot {
	__u64 n;
	struct record record;
};

/* A cache line for the head, then slots. */
struct plain {
	__u64 head;
	__u64 pad[7];
	struct slot slots[SLOTS];
};

extern void __arena *bpf_arena_alloc_pages(void *map, void __arena *at, __u32 count, int node,
					   __u64 flags) __attribute__((section(".ksyms")));

/* A run. Input: the ring, which `make` creates, and the first record's number. Output: the nanoseconds. */
struct arena_run {
	struct plain __arena *ring;
	__u64 first;
	__u64 ns;
};

SEC("syscall")
int make(struct arena_run *run)
{
	run->ring = bpf_arena_alloc_pages(&arena, 0, PAGES, -1, 0);
	return !run->ring;
}

static __always_inline void arena_one(struct plain __arena *ring, __u64 n)
{
	__u64 head = ring->head;
	struct slot __arena *slot = &ring->slots[head & (SLOTS - 1)];

	slot->n = head;
	for (int i = 0; i < 7; i++)
		slot->record.words[i] = n + i;
	asm volatile("" ::: "memory"); /* x86 keeps stores in order */
	*(volatile __u64 __arena *)&ring->head = head + 1;
}

SEC("syscall")
int produce_arena(struct arena_run *run)
{
	struct plain __arena *ring = run->ring;
	__u64 first = run->first, start;

	asm volatile("" ::"r"(&arena)); /* refers to the map of the memory */
	start = bpf_ktime_get_ns();
	for (__u32 i = 0; i < RECORDS; i++)
		arena_one(ring, first + i);
	run->ns = bpf_ktime_get_ns() - start;
	return 0;
}

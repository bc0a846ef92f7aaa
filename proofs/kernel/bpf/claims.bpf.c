// SPDX-License-Identifier: MIT OR Apache-2.0
/* Claims that take long: between reading a slot's sequence and the store that claims the slot, a task sleeps on its own
 * page or, with LINGER, the program loops. Other tasks of the same CPU claim in the meantime.
 *
 * With UNGUARDED, claims use plain stores without the guard: here they must fail. */
#include <mapring/detail/abi.bpf.h>

static int in_claim(void);
#define MAPRING__IN_CLAIM in_claim()

#ifdef UNGUARDED
#define MAPRING__HAS_GUARD 1
#define MAPRING__GUARD
#define MAPRING__UNGUARD
#elif !defined(LINGER) /* a program can't sleep in the guard */
#define MAPRING_NO_GUARD
#endif

#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

#define MAP_TYPE_HASH 1
#define SLOTS 8
#define MIX(writer, i) ((writer) * 0x9e3779b97f4a7c15ULL + (i))

struct item {
	__u64 writer, words[6];
};

MAPRING_RING(records, struct item, SLOTS);

/* The page on which each thread sleeps during its claims. */
struct {
	__uint(type, MAP_TYPE_HASH);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64);
} pages SEC(".maps");

/* The number of claims that began, and of claims during which another one began. */
enum { BEGUN, INTERRUPTED, COUNTS };
struct {
	__uint(type, MAPRING__MAP_TYPE_ARRAY);
	__uint(max_entries, COUNTS);
	__type(key, __u32);
	__type(value, __u64);
} counts SEC(".maps");

static __attribute__((noinline)) int in_claim(void)
{
	__u64 *begun = mapring__word(&counts, BEGUN), *interrupted = mapring__word(&counts, INTERRUPTED);
	__u32 thread = (__u32)bpf_get_current_pid_tgid();
	__u64 *page = bpf_map_lookup_elem(&pages, &thread);
	__u64 word = 0, before;

	if (!begun || !interrupted)
		return 0;
	before = mapring__load(begun);

	if (page && *page) {
#ifdef LINGER
		for (int i = 0; i < 200; i++)
			word += bpf_ktime_get_ns();
#else
		(void)bpf_copy_from_user(&word, sizeof(word), (void *)*page);
#endif
	}
	if (mapring__load(begun) != before)
		mapring__count(interrupted, 1);
	return (int)word;
}

/* The writer; the page on which it sleeps during its claims, or 0; then its ticket, or -1. */
struct args {
	__u64 writer, page, ticket;
};

SEC("syscall")
int push(struct args *args)
{
	__u64 writer = args->writer, page = args->page, *first, *begun = mapring__word(&counts, BEGUN);
	__u32 thread = (__u32)bpf_get_current_pid_tgid();
	struct mapring__shard shard;
	struct item *r;

	args->ticket = -1;
	bpf_map_update_elem(&pages, &thread, &page, 0);
	if (begun)
		mapring__count(begun, 1);
	r = mapring_reserve(&records);
	shard = mapring__shard__records(mapring__at__records());
	first = mapring__slot(shard.ring, shard.base, 0);
	if (!r || !first)
		return 0;
	/* The ticket, computed from the slot: its lap, and its place among the slots. */
	args->ticket = mapring__load((__u64 *)r - 1) / 2 * SLOTS +
		       ((char *)r - (char *)(first + 1)) / sizeof(struct mapring_ring__records);
	r->writer = writer;
	for (int i = 0; i < 6; i++)
		r->words[i] = MIX(writer, i);
	mapring_commit(&records, r);
	return 0;
}

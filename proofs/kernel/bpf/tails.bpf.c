// SPDX-License-Identifier: MIT OR Apache-2.0
/* Records with tails that helpers write in place, by writers that interrupt and preempt each other, and that sleep. */
#include <mapring/detail/abi.bpf.h>

static int linger(void);
#define MAPRING__IN_CLAIM linger()
#include <mapring/ring.bpf.h>

/* Some claims take long, so that others interrupt them. */
static __attribute__((noinline)) int linger(void)
{
	__u64 sum = 0;

	if (bpf_get_prandom_u32() % 64 == 0)
		for (int i = 0; i < 64; i++)
			sum += bpf_ktime_get_ns();
	return (int)sum;
}

char LICENSE[] SEC("license") = "GPL";

#define MAP_TYPE_ARRAY 2
#define XDP_PASS 2

/* All bytes of a tail follow from the writer and its number: see `from`. */
struct item {
	__u64 writer, n, len;
};

MAPRING_RING(tiny, struct item, 8, TAILS(64, 128));
MAPRING_RING(small, struct item, 64, TAILS(256, 4096));
MAPRING_RING(deep, struct item, 4096, TAILS(4000, 1 << 20));
MAPRING_RING(long_, struct item, 64, TAILS(65536, 1 << 19));
MAPRING_RING(kept, struct item, 64, KEEP_OLDEST, TAILS(256, 4096));

/* Bytes that userspace sets: none is zero, and no two tails of the same length are equal. */
#define PATTERN (65536 + 4096)
__u8 pattern[PATTERN + 1] SEC(".data.pattern");

enum { TASK, TICK, ENTER, PACKET, SLEEPER, WRITERS };
enum { TINY, SMALL, DEEP, LONG, KEPT, RINGS };

/* What each writer did, on all CPUs. */
struct {
	__u64 published[RINGS * WRITERS], dropped[RINGS * WRITERS], begun[RINGS * WRITERS];
	/* Writers that found another one of their CPU between reserve and commit. */
	__u64 nested[RINGS];
} counts SEC(".data.counts");

struct {
	__uint(type, MAP_TYPE_ARRAY);
	__uint(max_entries, 1024);
	__type(key, __u32);
	__type(value, __u64[RINGS]);
} inside SEC(".maps");

static __always_inline const __u8 *from(__u64 writer, __u64 n)
{
	return pattern + (n * 7 + writer * 1031) % 4096;
}

/* A record of `len` bytes. Returns 1 if it was published. */
#define PRODUCE(ring, number, longest)                                                          \
	__attribute__((noinline)) int produce_##ring(__u64 writer, __u64 len)                   \
	{                                                                                       \
		__u64 at = number * WRITERS + writer, n;                                        \
		__u64 *here = mapring__word(&inside, bpf_get_smp_processor_id());               \
		struct item *r;                                                                 \
                                                                                                \
		if (writer >= WRITERS || !here || len > longest)                                \
			return 0;                                                               \
		n = __sync_fetch_and_add(&counts.begun[at], 1);                                      \
		if (here[number])                                                               \
			__sync_fetch_and_add(&counts.nested[number], 1);                               \
		__sync_fetch_and_add(&here[number], 1);                                         \
		r = mapring_reserve(&ring);                                                     \
		if (r) {                                                                        \
			r->writer = writer;                                                     \
			r->n = n;                                                               \
			r->len = len;                                                           \
			bpf_probe_read_kernel(mapring_tail(&ring, r), len, from(writer, n));    \
			mapring_commit_tail(&ring, r, len);                                \
		}                                                                               \
		__sync_fetch_and_add(&here[number], -1);                                        \
		__sync_fetch_and_add(r ? &counts.published[at] : &counts.dropped[at], 1);                     \
		return !!r;                                                                     \
	}

PRODUCE(tiny, TINY, 64)
PRODUCE(small, SMALL, 256)
PRODUCE(deep, DEEP, 4000)
PRODUCE(long_, LONG, 65536)
PRODUCE(kept, KEPT, 256)

static __always_inline void produce_all(__u64 writer)
{
	__u64 random = bpf_get_prandom_u32();

	produce_tiny(writer, random % 65);
	produce_small(writer, random % 257);
	produce_deep(writer, random % 8 ? random % 100 : random % 4001);
	produce_kept(writer, random % 8 ? random % 30 : random % 257); /* no slot is free, or no space for the tail */
	if (random % 32 == 0)
		produce_long_(writer, random % 65537);
}

SEC("perf_event")
int on_tick(void *ctx __attribute__((unused)))
{
	produce_all(TICK);
	return 0;
}

SEC("raw_tp/sys_enter")
int on_enter(void *ctx __attribute__((unused)))
{
	produce_all(ENTER);
	return 0;
}

SEC("xdp")
int on_packet(void *ctx __attribute__((unused)))
{
	for (int i = 0; i < 16; i++)
		produce_all(PACKET);
	return XDP_PASS;
}

/* One record of the ring ctx[0], with ctx[1] bytes. Returns in ctx[2] whether it was published. */
SEC("syscall")
int write_one(__u64 *ctx)
{
	__u64 ring = ctx[0], len = ctx[1];

	ctx[2] = ring == TINY ? produce_tiny(TASK, len) :
		 ring == SMALL ? produce_small(TASK, len) :
		 ring == DEEP ? produce_deep(TASK, len) :
		 ring == LONG ? produce_long_(TASK, len) : produce_kept(TASK, len);
	return 0;
}

/* A record of `small` whose program sleeps on the user's page ctx[0] while it writes ctx[1] bytes of the tail. */
SEC("syscall")
int write_sleeping(__u64 *ctx)
{
	struct item *r = mapring_reserve(&small);
	__u64 len = ctx[1];

	ctx[2] = !!r;
	if (!r)
		return 0;
	r->writer = SLEEPER;
	r->n = len;
	r->len = len;
	if (len > 256)
		len = 256;
	if (bpf_copy_from_user(mapring_tail(&small, r), len, (void *)ctx[0]) < 0)
		len = 0;
	mapring_commit_tail(&small, r, len);
	return 0;
}

enum how { STRING, TRACE, TOO_LONG, CUT, DISCARD, FAILED, ABANDON };

/* A record of `deep` whose tail comes from another helper, or ends in another way: ctx[0] says how. Returns the tail's
 * length in ctx[1], and the result of the commit in ctx[2]. */
SEC("raw_tp")
int write_how(__u64 *ctx)
{
	__u64 how = ctx[0];
	struct item *r;
	void *tail;
	long len = 0;

	if (how == ABANDON) {
		r = mapring_reserve(&tiny);
		return !!r;
	}
	r = mapring_reserve(&deep);
	if (!r)
		return -1;
	tail = mapring_tail(&deep, r);
	r->writer = TASK;
	r->n = 0;
	if (how == STRING)
		len = bpf_probe_read_kernel_str(tail, 4000, pattern + PATTERN - 100);
	else if (how == TRACE)
		len = bpf_get_stack(ctx, tail, 4000, 0);
	else if (how == FAILED)
		len = bpf_probe_read_kernel_str(tail, 4000, 0);
	r->len = len;
	if (how == DISCARD) {
		mapring_discard(&deep, r);
		return 0;
	}
	if (how == TOO_LONG)
		return mapring_commit_tail(&deep, r, 4001);
	if (how == CUT)
		return bpf_probe_read_kernel(tail, 4000, pattern) ?: mapring_commit_tail_cut(&deep, r, 4001);
	return mapring_commit_tail(&deep, r, len);
}

/* The kernel's type, for programs without its headers. */
struct bpf_dynptr {
	__u64 opaque[2];
};

/* A record of `deep` with 999 bytes that a dynptr's helper writes. */
SEC("raw_tp")
int write_dynptr(__u64 *ctx __attribute__((unused)))
{
	struct bpf_dynptr from;
	struct item *r = mapring_reserve(&deep);
	long failed;

	if (!r)
		return -1;
	r->writer = TASK;
	r->n = 0;
	r->len = 999;
	bpf_dynptr_from_mem(pattern, 1000, 0, &from);
	failed = bpf_dynptr_read(mapring_tail(&deep, r), 999, &from, 1, 0);
	return mapring_commit_tail(&deep, r, failed ?: 999);
}

/* The kernel's type, for programs without its headers. */
struct xdp_md;

/* A record of `long_` with the whole packet, which may have fragments. Returns whether it was published. */
SEC("xdp.frags")
int write_packet(struct xdp_md *ctx)
{
	__u64 len = bpf_xdp_get_buff_len(ctx);
	struct item *r = mapring_reserve(&long_);
	long failed;

	if (!r)
		return 0;
	r->writer = PACKET;
	r->n = 0;
	r->len = len;
	if (len > 65536)
		len = 65536;
	/* The helper refuses a size of 0, and old verifiers learn nothing from a comparison with 0. */
	asm volatile("" : "+r"(len));
	failed = bpf_xdp_load_bytes(ctx, 0, mapring_tail(&long_, r), ((len - 1) & 65535) + 1);
	return !mapring_commit_tail(&long_, r, failed ?: len);
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Other ways to send data out of a program, and into it. */
#include <mapring/latch.bpf.h>

#include "ringbuf.h"

#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_PERF_EVENT_ARRAY 4
#define BPF_MAP_TYPE_USER_RINGBUF 31
#define BPF_F_CURRENT_CPU 0xffffffffULL

#define COUNT 1024 /* records per run */

struct {
	__uint(type, BPF_MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} perf SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, COUNT * 2);
	__type(key, __u64);
	__type(value, struct record);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, SLOTS * 64);
} commands SEC(".maps");

MAPRING_LATCH(latch, struct record);

struct xdp_md {
	__u32 data;
	__u32 data_end;
};

/* A program whose packet is its `struct run`. Some helpers exist only for a few program types. */
#define PACKET(name)                                                         \
	static __always_inline int name##_body(struct xdp_md *ctx, __u64 first, __u32 i); \
	SEC("xdp") int name(struct xdp_md *ctx)                              \
	{                                                                    \
		struct run *run = (void *)(long)ctx->data;                   \
		__u64 start, first;                                          \
                                                                             \
		if ((void *)(run + 1) > (void *)(long)ctx->data_end)         \
			return 1;                                            \
		first = run->first;                                          \
		start = bpf_ktime_get_ns();                                  \
		for (__u32 i = 0; i < COUNT; i++)                            \
			if (name##_body(ctx, first, i))                      \
				return 1;                                    \
		start = bpf_ktime_get_ns() - start;                          \
		run = (void *)(long)ctx->data;                               \
		if ((void *)(run + 1) > (void *)(long)ctx->data_end)         \
			return 1;                                            \
		run->ns = start;                                             \
		return 0;                                                    \
	}                                                                    \
	static __always_inline int name##_body(struct xdp_md *ctx, __u64 first, __u32 i)

PACKET(by_perf)
{
	struct record r;

	fill(&r, first + i);
	return bpf_perf_event_output(ctx, &perf, BPF_F_CURRENT_CPU, &r, sizeof(r)) != 0;
}

PACKET(by_ring)
{
	struct record r;

	(void)ctx;
	fill(&r, first + i);
	return mapring_output(&ours, &r) != 0;
}

PACKET(by_ringbuf)
{
	struct record r;

	(void)ctx;
	fill(&r, first + i);
	return bpf_ringbuf_output(&ringbuf, &r, sizeof(r), BPF_RB_NO_WAKEUP) != 0;
}

/* Default wakeups, while no reader sleeps. */
PACKET(by_ringbuf_waking)
{
	(void)ctx;
	return !ringbuf_with(first + i, 0);
}

PACKET(by_hash)
{
	struct record r;
	__u64 key = first + i;

	(void)ctx;
	fill(&r, key);
	return bpf_map_update_elem(&hash, &key, &r, 0) != 0;
}

/* Down: the sum of the values read is returned as the first record's number. */
struct sum {
	__u64 sum;
	__u64 count;
};

static long add_command(void *dynptr, struct sum *sum)
{
	struct record *r = bpf_dynptr_data(dynptr, 0, sizeof(*r));

	if (!r)
		return 1;
	sum->sum += r->words[0] + r->words[6];
	sum->count++;
	return 0;
}

SEC("syscall")
int drain_commands(struct run *run)
{
	struct sum sum = { 0, 0 };
	__u64 start = bpf_ktime_get_ns();
	long drained = bpf_user_ringbuf_drain(&commands, add_command, &sum, 0);

	run->ns = bpf_ktime_get_ns() - start;
	run->first = sum.sum;
	return drained < 0;
}

SEC("syscall")
int read_latch(struct run *run)
{
	struct record r;
	__u64 sum = 0, start = bpf_ktime_get_ns();

	for (__u32 i = 0; i < COUNT; i++) {
		if (mapring_latch_read(&latch, 0, &r))
			return 1;
		sum += r.words[0] + r.words[6];
	}
	run->ns = bpf_ktime_get_ns() - start;
	run->first = sum;
	return 0;
}

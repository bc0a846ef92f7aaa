// SPDX-License-Identifier: MIT OR Apache-2.0
/* Programs that jump through a table, and programs that are jumped to. */
#include <mapring/dispatch.bpf.h>

char LICENSE[] SEC("license") = "GPL";

#define SLOTS 4

MAPRING_DISPATCH(stages, SLOTS);
/* The number of runs of the entry, of each stage, and of the code after the entry's jump. */
MAPRING_COUNTERS(runs, 4);

struct xdp_md {
	__u32 data, data_end;
};

/* The first byte of the packet is the slot. */
SEC("xdp")
int entry(struct xdp_md *ctx)
{
	__u8 *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	if (data + 1 > end)
		return 0;
	mapring_counter_inc(&runs, 0);
	mapring_dispatch(ctx, &stages, *data);
	mapring_counter_inc(&runs, 3);
	return 100;
}

SEC("xdp")
int first(struct xdp_md *ctx)
{
	(void)ctx;
	mapring_counter_inc(&runs, 1);
	return 1;
}

SEC("xdp")
int second(struct xdp_md *ctx)
{
	(void)ctx;
	mapring_counter_inc(&runs, 2);
	return 2;
}

SEC("xdp")
int endless(struct xdp_md *ctx)
{
	mapring_dispatch(ctx, &stages, 0);
	return 3;
}

SEC("raw_tp/sys_enter")
int stranger(void *ctx)
{
	(void)ctx;
	return 0;
}

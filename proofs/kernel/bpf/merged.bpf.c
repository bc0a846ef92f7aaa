// SPDX-License-Identifier: MIT OR Apache-2.0
/* Programs that interrupt each other between reserve and stamp: packets, and a clock. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct stamped {
	__u64 ns, boot_ns, writer;
};

MAPRING_RING(stamped, struct stamped, 16384);

static __always_inline void push(__u64 writer)
{
	struct stamped *record = mapring_reserve(&stamped);
	__u64 sum = 0;

	if (!record)
		return;
	/* Time for an interrupt. */
	for (int i = 0; i < 4; i++)
		sum += bpf_ktime_get_ns();
	asm volatile("" : : "r"(sum));
	record->writer = writer;
	record->ns = bpf_ktime_get_ns();
	record->boot_ns = bpf_ktime_get_boot_ns();
	mapring_commit(&stamped, record);
}

SEC("xdp")
int on_packet(void *ctx __attribute__((unused)))
{
	for (int i = 0; i < 16; i++)
		push(0);
	return 2; /* XDP_PASS */
}

SEC("perf_event")
int on_tick(void *ctx __attribute__((unused)))
{
	for (int i = 0; i < 3; i++)
		push(1);
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* Programs that interrupt each other between reserve and stamp: packets, and a clock. And a flood of records beside a few others. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct stamped {
	__u64 ns, boot_ns, writer;
};

MAPRING_RING(stamped, struct stamped, 16384);

struct alert {
	__u64 ns, n;
};

struct noise {
	__u64 cpu, n, ns;
};

/* Some seconds of alerts, and less than a millisecond of noise. */
MAPRING_RING(alerts, struct alert, 65536);
MAPRING_RING(noise, struct noise, 4096);

/* Records of each ring that were written. One CPU writes them. */
__u64 alerts_written, noise_written;

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

/* A hundred records of noise, and an alert. */
SEC("xdp")
int on_flood(void *ctx __attribute__((unused)))
{
	struct alert *alert;

	for (int i = 0; i < 100; i++) {
		struct noise *record = mapring_reserve(&noise);

		if (!record)
			continue;
		record->cpu = bpf_get_smp_processor_id();
		record->n = noise_written++;
		record->ns = bpf_ktime_get_ns();
		mapring_commit(&noise, record);
	}
	alert = mapring_reserve(&alerts);
	if (alert) {
		alert->n = alerts_written++;
		alert->ns = bpf_ktime_get_ns();
		mapring_commit(&alerts, alert);
	}
	return 2; /* XDP_PASS */
}

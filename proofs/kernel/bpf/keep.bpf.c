// SPDX-License-Identifier: MIT OR Apache-2.0
/* Rings that keep their oldest records. Tests run the programs by hand, and on events. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct rec {
	__u64 n, twice;
};

struct tiny {
	__u8 n;
};

MAPRING_RING(events, struct rec, 64, KEEP_OLDEST);
MAPRING_RING(small, struct tiny, 1, KEEP_OLDEST);

struct args {
	__u64 n;
	__u32 count;
	__u32 written;
};

/* Publishes `count` records, numbered from `n`, and returns how many were not dropped in `written`. */
SEC("syscall")
int publish(struct args *args)
{
	for (__u32 i = 0; i < 256 && i < args->count; i++) {
		struct rec ready = { args->n + i, 2 * (args->n + i) };

		args->written += !mapring_output(&events, &ready);
	}
	return 0;
}

SEC("syscall")
int publish_small(struct args *args)
{
	struct tiny ready = { args->n };

	args->written += !mapring_output(&small, &ready);
	return 0;
}

//go:build ignore

// SPDX-License-Identifier: MIT OR Apache-2.0
/* The same records in a ring and in a BPF ringbuf, for the benchmark. */
#define MAPRING_NO_WEAK
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct event {
	__u64 words[7];
};

MAPRING_RING(events, struct event, 4096);

struct {
	__uint(type, 27); /* BPF_MAP_TYPE_RINGBUF */
	__uint(max_entries, 1 << 20);
} ringbuf SEC(".maps");

/* Writes 256 records. */
SEC("syscall")
int to_ring(void *ctx __attribute__((unused)))
{
	for (__u64 n = 0; n < 256; n++)
		mapring_record(events, e)
			for (int i = 0; i < 7; i++)
				e->words[i] = n + i;
	return 0;
}

SEC("syscall")
int to_ringbuf(void *ctx __attribute__((unused)))
{
	for (__u64 n = 0; n < 256; n++) {
		struct event *e = bpf_ringbuf_reserve(&ringbuf, sizeof(*e), 0);

		if (!e)
			return 1;
		for (int i = 0; i < 7; i++)
			e->words[i] = n + i;
		bpf_ringbuf_submit(e, 0);
	}
	return 0;
}

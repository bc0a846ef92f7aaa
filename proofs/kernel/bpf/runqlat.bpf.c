// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * The example `runqlat`. It counts each wait a second time, as the runqlat of bcc's libbpf-tools does: in a hash map, by
 * an atomic addition to one of 26 slots, a power of two each.
 */
#define ALSO(us) also(us)
static void also(unsigned long long us);
#include "../../../examples/runqlat.bpf.c"

#define SLOTS 26

struct slots {
	__u32 slots[SLOTS];
};

struct {
	__uint(type, MAP_TYPE_HASH);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct slots);
} peer SEC(".maps");

static __always_inline void also(unsigned long long us)
{
	__u32 key = 0, slot = 0;
	struct slots *slots = bpf_map_lookup_elem(&peer, &key);

	if (!slots) {
		struct slots zero = {};

		bpf_map_update_elem(&peer, &key, &zero, 1 /* if there is none */);
		slots = bpf_map_lookup_elem(&peer, &key);
		if (!slots)
			return;
	}
#pragma unroll
	for (int bits = 32; bits; bits /= 2) {
		if (us >> bits) {
			us >>= bits;
			slot += bits;
		}
	}
	asm volatile("" : "+r"(slot)); /* clang knows a limit that the verifier does not */
	if (slot >= SLOTS)
		slot = SLOTS - 1;
	__sync_fetch_and_add(&slots->slots[slot], 1);
}

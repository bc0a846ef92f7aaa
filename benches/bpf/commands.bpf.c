// SPDX-License-Identifier: MIT OR Apache-2.0
/* Commands from userspace to programs, and the kernel's user ring buffer. */
#include <mapring/commands.bpf.h>

#include "ringbuf.h"

#define BPF_MAP_TYPE_USER_RINGBUF 31

#define COUNT 64 /* drains per run: few, as they are all in one program */

MAPRING_COMMANDS(orders, struct record, SLOTS);

struct {
	__uint(type, BPF_MAP_TYPE_USER_RINGBUF);
	__uint(max_entries, SLOTS * 64);
} user_ringbuf SEC(".maps");

/* What the commands changed; the peer's is also its acknowledgement, as it has none of its own. */
__u64 our_sum;
__u64 their_sum, their_count;

static void apply(const struct record *r)
{
	our_sum += r->words[0] + r->words[6];
}

static long add(void *dynptr, void *ctx __attribute__((unused)))
{
	struct record *r = bpf_dynptr_data(dynptr, 0, sizeof(*r));

	if (!r)
		return 1;
	their_sum += r->words[0] + r->words[6];
	*(volatile __u64 *)&their_count = their_count + 1;
	return 0;
}

/* Events. */
SEC("raw_tp/sys_enter")
int ours_on_enter(void *ctx __attribute__((unused)))
{
	mapring_commands_drain(&orders, apply);
	return 0;
}

SEC("raw_tp/sys_enter")
int theirs_on_enter(void *ctx __attribute__((unused)))
{
	bpf_user_ringbuf_drain(&user_ringbuf, add, 0, 0);
	return 0;
}

/* Without the wakeup of a writer that waits for room. */
SEC("raw_tp/sys_enter")
int theirs_without_wakeup(void *ctx __attribute__((unused)))
{
	bpf_user_ringbuf_drain(&user_ringbuf, add, 0, BPF_RB_NO_WAKEUP);
	return 0;
}

/* Only the event. */
SEC("raw_tp/sys_enter")
int nothing_on_enter(void *ctx __attribute__((unused)))
{
	return 0;
}

/* Events without commands. */
SEC("syscall")
int ours_idle(struct run *run)
{
	__u64 start = bpf_ktime_get_ns();

	for (__u32 i = 0; i < COUNT; i++) {
		mapring_commands_drain(&orders, apply);
		asm volatile("" : : : "memory");
	}
	run->ns = bpf_ktime_get_ns() - start;
	return 0;
}

SEC("syscall")
int theirs_idle(struct run *run)
{
	__u64 start = bpf_ktime_get_ns();

	for (__u32 i = 0; i < COUNT; i++)
		bpf_user_ringbuf_drain(&user_ringbuf, add, 0, BPF_RB_NO_WAKEUP);
	run->ns = bpf_ktime_get_ns() - start;
	return 0;
}

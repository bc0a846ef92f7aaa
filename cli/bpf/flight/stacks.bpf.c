// SPDX-License-Identifier: MIT OR Apache-2.0
/* The groups of the flight recorder that record stacks, as tails of their records: samples, long waits, contended locks.
 * build.rs compiles this file for each number of slots, as flight.bpf.c. cli/src/flight/record.rs has the same records in
 * Rust. */
#include <mapring/cell.bpf.h>
#include <mapring/ring.bpf.h>
#include <bpf/bpf_core_read.h>

#include "stop.bpf.h"

#ifndef SLOTS
#define SLOTS 4096
#endif

char LICENSE[] SEC("license") = "GPL";

/* The most frames of a stack: in the kernel, with 8 bytes each, and in userspace, as struct bpf_stack_build_id. The kernel
 * is asked for one more, which shows that a stack is cut. */
#define KERNEL 64
#define USER 126
#define KERNEL_FRAME 8
#define USER_FRAME 32
#define LONGEST ((KERNEL + 1) * KERNEL_FRAME + (USER + 1) * USER_FRAME)

/* The tail: frames of the kernel, then of userspace, the innermost first. Most stacks take a few hundred bytes. */
struct stack {
	__u32 kernel; /* bytes */
	__u32 is_cut;
};
#define STACKS(ring) MAPRING_RING(ring, struct ring, SLOTS, TAILS(LONGEST, SLOTS * 512))

struct profile {
	__u64 ns;
	__u32 pid, tid;
	struct stack stack;
};
STACKS(profile);

const volatile struct {
	__u32 deepest; /* kernel.perf_event_max_stack: the kernel shows no more frames */
} limits SEC(".rodata.limits") = {};

/* Flags of the helper. */
#define OF_USER (1ULL << 8)
#define WITH_BUILD_ID (1ULL << 11)

/* Writes the stack of the running thread. Returns the bytes of the tail. */
static __always_inline long take_stack(void *ctx, char *tail, struct stack *stack)
{
	long kernel, user;

	kernel = bpf_get_stack(ctx, tail, (KERNEL + 1) * KERNEL_FRAME, 0);
	stack->is_cut = kernel > KERNEL * KERNEL_FRAME || kernel >= (long)limits.deepest * KERNEL_FRAME;
	if (kernel < 0)
		kernel = 0;
	if (kernel > KERNEL * KERNEL_FRAME)
		kernel = KERNEL * KERNEL_FRAME;
	asm volatile("" : "+r"(kernel)); /* the verifier needs these bounds */
	stack->kernel = kernel;
	user = bpf_get_stack(ctx, tail + kernel, (USER + 1) * USER_FRAME, OF_USER | WITH_BUILD_ID);
	stack->is_cut |= user > USER * USER_FRAME || user >= (long)limits.deepest * USER_FRAME;
	if (user < 0)
		user = 0;
	if (user > USER * USER_FRAME)
		user = USER * USER_FRAME;
	return kernel + user;
}

/* Ends the record `e` with the stack of the running thread. */
#define COMMIT_STACK(ring)                                                                      \
	mapring_commit_tail(&ring, e, take_stack(ctx, mapring_tail(&ring, e), &e->stack));      \
	return 0;

/* The idle task is not sampled. */
SEC("perf_event")
int profile_sample(struct bpf_perf_event_data *ctx)
{
	if (!bpf_get_current_pid_tgid())
		return 0;
	RESERVE(profile)
	COMMIT_STACK(profile)
}

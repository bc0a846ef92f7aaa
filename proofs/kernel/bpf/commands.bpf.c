// SPDX-License-Identifier: MIT OR Apache-2.0
/* Commands that programs on all CPUs carry out. Each command has the same number in all its words. */
#include <mapring/commands.bpf.h>
#include <mapring/counters.bpf.h>
#include <mapring/global.bpf.h>

#include "records.h"

char LICENSE[] SEC("license") = "GPL";

#define ORDERS 64
struct rec_12 {
	__u32 words[3];
};

/* Which thread pushed it, and its number in that thread, which is also in all other words. */
struct order {
	__u64 thread, number;
	__u64 words[5];
};

struct small {
	__u64 value;
};

MAPRING_COMMANDS(orders, struct order, ORDERS);
MAPRING_COMMANDS(smalls, struct small, 4);
MAPRING_COMMANDS(odds, struct rec_12, 2);
/* The commands that programs on each CPU carried out. */
MAPRING_COUNTERS(drained_on, 1);
MAPRING_GLOBAL_LATCH(now, struct order);
MAPRING_GLOBAL_LATCH(now_small, struct small);

#define THREADS 8
/* What `apply` found. Only the program that drains writes these, so they are plain variables. */
__u64 applied[THREADS];
__u64 carried_out, out_of_order, mixed, entered;
/* What events found. */
__u64 events, mixtures, unread;
__u64 odd_sum;

static void apply(const struct order *order)
{
	__u64 thread = order->thread, different = 0;

	/* Two programs in here at once would count what the other one leaves. */
	if (entered++)
		out_of_order++;
	carried_out++;
	mapring_counter_inc(&drained_on, 0);
	for (int i = 0; i < 5; i++)
		different |= order->words[i] ^ order->number;
	if (different)
		mixed++;
	if (thread < THREADS) {
		/* Verifiers up to Linux 6.1 check another copy of the number than the one that is used. */
		asm volatile("" : "+r"(thread));
		thread &= THREADS - 1;
		if (order->number != applied[thread] + 1)
			out_of_order++;
		applied[thread] = order->number;
	}
	mapring_latch_set(&now, order);
	entered--;
}

static __always_inline void event(void)
{
	struct order seen;
	__u64 different = 0;

	mapring_commands_drain(&orders, apply);
	if (mapring_latch_read(&now, &seen)) {
		__sync_fetch_and_add(&unread, 1);
		return;
	}
	for (int i = 0; i < 5; i++)
		different |= seen.words[i] ^ seen.number;
	if (different)
		__sync_fetch_and_add(&mixtures, 1);
	__sync_fetch_and_add(&events, 1);
}

SEC("raw_tp/sys_enter")
int on_enter(void *ctx __attribute__((unused)))
{
	event();
	return 0;
}

SEC("raw_tp/sched_switch")
int on_switch(void *ctx __attribute__((unused)))
{
	event();
	return 0;
}

SEC("perf_event")
int on_tick(void *ctx __attribute__((unused)))
{
	event();
	return 0;
}

/* One event by hand; returns what it then reads. */
SEC("syscall")
int one_event(struct args *args)
{
	struct order seen;

	mapring_commands_drain(&orders, apply);
	args->done = 0;
	if (mapring_latch_read(&now, &seen))
		return 0;
	args->index = seen.thread;
	args->n = seen.number;
	args->done = 1;
	return 0;
}

static void apply_small(const struct small *command)
{
	mapring_latch_set(&now_small, command);
}

SEC("syscall")
int one_small(struct args *args)
{
	struct small seen;

	mapring_commands_drain(&smalls, apply_small);
	args->done = !mapring_latch_read(&now_small, &seen);
	args->n = seen.value;
	return 0;
}

static void apply_odd(const struct rec_12 *command)
{
	odd_sum += command->words[0] + command->words[1] + command->words[2];
}

SEC("syscall")
int one_odd(struct args *args)
{
	mapring_commands_drain(&odds, apply_odd);
	args->n = odd_sum;
	args->done = 1;
	return 0;
}

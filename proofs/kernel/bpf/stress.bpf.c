// SPDX-License-Identifier: MIT OR Apache-2.0
/* Writers in six contexts that interrupt each other, and readers of a latch in each of them. They count their own
 * actions independently of the library, and which context interrupted which, for the test to compare. */
#include "stress.h"

char LICENSE[] SEC("license") = "GPL";

SEC("raw_tp/sys_enter")
int on_call(void *ctx __attribute__((unused)))
{
	__u64 writer = bpf_ktime_get_ns();
	struct state *state = enter(CALL);

	if (!state)
		return 0;
	produce_1(writer, ONE(CALL), 0);
	produce_2(writer, ONE(CALL), 0);
	produce_4(writer, ONE(CALL), 0);
	produce_4096(writer, ONE(CALL), 0);
	set_cell(0, writer, ONE(CALL), 0);
	set_cell(1, writer, ONE(CALL), 0);
	add(0, 1);
	add(1, writer & 0xff);
	look(state, CALL);
	return leave(state, CALL);
}

SEC("uprobe")
int on_probe(void *ctx __attribute__((unused)))
{
	__u64 writer = bpf_ktime_get_ns();
	struct state *state = enter(PROBE);

	if (!state)
		return 0;
	produce_2(writer, ONE(PROBE), 0);
	produce_4(writer, ONE(PROBE), 0);
	produce_4096(writer, ONE(PROBE), 0);
	set_cell(0, writer, ONE(PROBE), 0);
	add(0, 1);
	look(state, PROBE);
	return leave(state, PROBE);
}

/* The test's arguments: the target, and the page to sleep on. */
struct sleep_args {
	__u64 target, page;
};

SEC("syscall")
int on_sleep(struct sleep_args *args)
{
	__u64 writer = bpf_ktime_get_ns(), target = args->target, page = args->page;
	struct state *state = enter(SLEEPER);

	if (!state)
		return 0;
	if (target == 0)
		sleep_1(writer, ONE(SLEEPER), page);
	else if (target == 1)
		sleep_2(writer, ONE(SLEEPER), page);
	else if (target == 2)
		sleep_4(writer, ONE(SLEEPER), page);
	else if (target == 3)
		sleep_4096(writer, ONE(SLEEPER), page);
	else
		sleep_in_cell(1, writer, ONE(SLEEPER), page);
	add(0, 1);
	look(state, SLEEPER);
	return leave(state, SLEEPER);
}

SEC("raw_tp/sched_switch")
int on_switch(void *ctx __attribute__((unused)))
{
	__u64 writer = bpf_ktime_get_ns();
	struct state *state = enter(SWITCH);

	if (!state)
		return 0;
	produce_1(writer, ONE(SWITCH), 0);
	produce_4(writer, ONE(SWITCH), 0);
	produce_4096(writer, ONE(SWITCH), 0);
	set_cell(0, writer, ONE(SWITCH), 0);
	add(0, 1);
	look(state, SWITCH);
	return leave(state, SWITCH);
}

SEC("raw_tp/softirq_entry")
int on_softirq(void *ctx __attribute__((unused)))
{
	__u64 writer = bpf_ktime_get_ns();
	struct state *state = enter(SOFTIRQ);

	if (!state)
		return 0;
	for (__u32 i = 0; i < 3; i++) {
		produce_2(writer + i, ONE(SOFTIRQ), 0);
		produce_4(writer + i, ONE(SOFTIRQ), 0);
		produce_4096(writer + i, ONE(SOFTIRQ), 0);
	}
	produce_1(writer, ONE(SOFTIRQ), 0);
	set_cell(1, writer, ONE(SOFTIRQ), 0);
	add(0, 1);
	look(state, SOFTIRQ);
	return leave(state, SOFTIRQ);
}

SEC("perf_event")
int on_tick(void *ctx __attribute__((unused)))
{
	__u64 writer = bpf_ktime_get_ns();
	struct state *state = enter(CLOCK);

	if (!state)
		return 0;
	/* Several, so that an interrupted program finds the end of the ring far ahead. */
	for (__u32 i = 0; i < 6; i++) {
		produce_2(writer + i, ONE(CLOCK), 0);
		produce_4(writer + i, ONE(CLOCK), 0);
		produce_4096(writer + i, ONE(CLOCK), 0);
	}
	produce_1(writer, ONE(CLOCK), 0);
	set_cell(0, writer, ONE(CLOCK), 0);
	add(0, 1);
	add(2, writer & 0xff);
	look(state, CLOCK);
	return leave(state, CLOCK);
}

/* The only writer of latch 1, on a clock of one CPU: writes it as docs/abi.md specifies. */
SEC("perf_event")
int on_latch_tick(void *ctx __attribute__((unused)))
{
	__u64 *seq = mapring__word(&latches, MAPRING__FIRST(sizeof(struct mapring_latch__latches)) + 1);
	struct count *count = count_of(9);
	__u64 next;

	if (!seq || !count)
		return 0;
	next = mapring__load(seq) + 1;
	mapring__barrier();
	fill((struct item *)(seq + 1) + (next & 1), next, bpf_ktime_get_ns());
	mapring__publish(seq, next);
	mapring__count(&count->committed, 1);
	return 0;
}

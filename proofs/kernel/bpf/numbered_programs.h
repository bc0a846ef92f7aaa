/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The writers of the ring `numbers`, of any kind: tasks that may sleep, system calls, a clock's interrupts. */
/* The task whose system calls are recorded. */
const volatile __u32 watched SEC(".rodata.watched") = 0;
/* The number of records that these wrote or dropped. */
__u64 calls, calls_dropped, clocks, clocks_dropped;

static __always_inline int push(__u64 writer, __u64 number)
{
	struct numbered *record = mapring_reserve(&numbers);

	if (!record)
		return -1;
	fill(record, writer, number);
	mapring_commit(&numbers, record);
	return 0;
}

/* Pushes ctx[2] records of the writer ctx[0] from number ctx[1] on. Returns in ctx[3] how many were dropped. */
SEC("syscall")
int push_run(__u64 *ctx)
{
	for (__u32 i = 0; i < 16; i++) {
		if (i >= ctx[2])
			break;
		if (push(ctx[0], ctx[1] + i))
			ctx[3]++;
	}
	return 0;
}

static __always_inline int count(__u32 writer, __u64 *written, __u64 *dropped)
{
	if (push(writer, __sync_fetch_and_add(written, 1)))
		(void)__sync_fetch_and_add(dropped, 1);
	return 0;
}

SEC("raw_tp/sys_enter")
int on_call(void *ctx)
{
	(void)ctx;
	if (bpf_get_current_pid_tgid() >> 32 != watched)
		return 0;
	return count(0, &calls, &calls_dropped);
}

SEC("perf_event")
int on_clock(void *ctx)
{
	(void)ctx;
	return count(1, &clocks, &clocks_dropped);
}

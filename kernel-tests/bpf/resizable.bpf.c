// SPDX-License-Identifier: MIT OR Apache-2.0
/* A resizable ring, written from tasks that sleep, from system calls and from a clock's interrupts. */
#include <mapring/resizable.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct numbered {
	__u64 writer, number, copies[4];
};

MAPRING_RESIZABLE_RING(numbers, struct numbered, 64);

/* Elements so small that a shard's header takes several. */
struct small {
	__u64 number;
};
struct middle {
	__u64 number, copy;
};

MAPRING_RESIZABLE_RING(smalls, struct small, 8);
MAPRING_RESIZABLE_RING(middles, struct middle, 8);

/* One record into each, of the number ctx[1]; ctx[3]: how many were dropped. */
SEC("syscall")
int push_small(__u64 *ctx)
{
	struct middle *middle = mapring_reserve(&middles);
	struct small *small = mapring_reserve(&smalls);

	ctx[3] = !middle + !small;
	if (small) {
		small->number = ctx[1];
		mapring_commit(small);
	}
	if (middle) {
		middle->number = ctx[1];
		middle->copy = ~ctx[1];
		mapring_commit(middle);
	}
	return 0;
}

/* Which task's system calls are recorded. */
const volatile __u32 watched = 0;
/* How many records these wrote, or had to drop. */
__u64 calls, calls_dropped, clocks, clocks_dropped;

static __always_inline void fill(struct numbered *record, __u64 writer, __u64 number)
{
	record->writer = writer;
	record->number = number;
	for (int i = 0; i < 4; i++)
		record->copies[i] = writer << 32 ^ number;
}

static __always_inline int push(__u64 writer, __u64 number)
{
	struct numbered *record = mapring_reserve(&numbers);

	if (!record)
		return -1;
	fill(record, writer, number);
	mapring_commit(record);
	return 0;
}

/* Pushes ctx[2] records of the writer ctx[0] from number ctx[1] on; ctx[3]: how many were dropped. */
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

/* A record that is begun by one run and ended by none. */
SEC("syscall")
int abandon(__u64 *ctx)
{
	struct numbered *record = mapring_reserve(&numbers);

	ctx[3] = !record;
	return 0;
}

/* The record ctx[1] of the writer ctx[0], for which it sleeps until there is a page at ctx[2]. */
SEC("syscall")
int push_slowly(__u64 *ctx)
{
	struct numbered *record = mapring_reserve(&numbers);
	__u64 word;

	ctx[3] = !record;
	if (!record)
		return 0;
	(void)bpf_copy_from_user(&word, sizeof(word), (void *)ctx[2]);
	fill(record, ctx[0], ctx[1]);
	mapring_commit(record);
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

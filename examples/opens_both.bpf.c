// SPDX-License-Identifier: MIT OR Apache-2.0
/*
 * For the test of `opens`: the same events as opens.bpf.c, and in the same programs those of the opensnoop of bcc's
 * libbpf-tools. It keeps the arguments in a hash map while the call runs, and writes the event to a perf buffer.
 */
#include "opens.bpf.c"

#define MAP_TYPE_HASH 1
#define MAP_TYPE_PERF_EVENT_ARRAY 4
#define CURRENT_CPU 0xffffffffULL

struct peer_args {
	const char *name;
	__u64 flags;
};

struct peer_event {
	__u64 flags;
	__u32 pid, uid;
	__s32 ret;
	__u32 pad;
	char comm[16];
	char name[256];
};

struct {
	__uint(type, MAP_TYPE_HASH);
	__uint(max_entries, 10240);
	__type(key, __u32);
	__type(value, struct peer_args);
} started SEC(".maps");

struct {
	__uint(type, MAP_TYPE_PERF_EVENT_ARRAY);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(__u32));
} peer SEC(".maps");

__u64 peer_dropped = 0;

/* The test's threads that open files: their process, and their name, in words. */
volatile const __u32 our_pid = 0;
volatile const __u64 our_name[2] = {};
/* The records of their calls that were dropped. */
__u64 ours_dropped = 0;

static __always_inline int is_ours(void)
{
	__u64 comm[2];

	bpf_get_current_comm(comm, sizeof(comm));
	return bpf_get_current_pid_tgid() >> 32 == our_pid && comm[0] == our_name[0] && comm[1] == our_name[1];
}

SEC("tp_btf/sys_enter")
int peer_begin(__u64 *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid();
	struct peer_args args;

	if (arguments((void *)ctx[0], &args.name, &args.flags))
		bpf_map_update_elem(&started, &pid, &args, 0);
	return 0;
}

SEC("tp_btf/sys_exit")
int both_sys_exit(__u64 *ctx)
{
	__u32 pid = bpf_get_current_pid_tgid();
	struct peer_args *args = bpf_map_lookup_elem(&started, &pid);
	struct peer_event event = {};

	if (!args)
		return 0;
	if (call_ended((void *)ctx[0], ctx[1]) && is_ours())
		__sync_fetch_and_add(&ours_dropped, 1);
	event.flags = args->flags;
	event.pid = bpf_get_current_pid_tgid() >> 32;
	event.uid = bpf_get_current_uid_gid();
	event.ret = ctx[1];
	bpf_get_current_comm(event.comm, sizeof(event.comm));
	bpf_probe_read_user_str(event.name, sizeof(event.name), args->name);
	if (bpf_perf_event_output(ctx, &peer, CURRENT_CPU, &event, sizeof(event)))
		__sync_fetch_and_add(&peer_dropped, 1);
	bpf_map_delete_elem(&started, &pid);
	return 0;
}

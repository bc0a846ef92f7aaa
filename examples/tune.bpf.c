// SPDX-License-Identifier: MIT OR Apache-2.0
/* A record for some system calls. Commands change which ones, and how many of them, while programs run. */
#include <mapring/commands.bpf.h>
#include <mapring/global.bpf.h>
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

/* Record one in `every` of the calls of process `pid` with this number. */
struct tuning {
	__u64 version;
	__u32 pid, call, every, _unused;
};

struct call {
	__u64 begin;             /* when the program began */
	__u64 version, index;    /* of how many such calls this is one */
	__u32 pid, call, every, _unused;
};

MAPRING_COMMANDS(commands, struct tuning, 16);
MAPRING_GLOBAL_LATCH(tuning, struct tuning);
MAPRING_RING(calls, struct call, 65536); /* slots per CPU */

__u64 counted = 0;

static void apply(const struct tuning *command)
{
	mapring_latch_set(&tuning, command);
}

SEC("raw_tp/sys_enter")
int on_enter(__u64 *ctx)
{
	__u64 begin = bpf_ktime_get_ns(), index;
	__u32 pid = bpf_get_current_pid_tgid() >> 32, number = ctx[1];
	struct tuning now;
	struct call *call;

	mapring_commands_drain(&commands, apply);
	if (mapring_latch_read(&tuning, &now))
		return 0;
	/* All zeros until the first command. */
	if (!now.every || pid != now.pid || number != now.call)
		return 0;
	index = __sync_fetch_and_add(&counted, 1);
	if (index % now.every)
		return 0;
	call = mapring_reserve(&calls);
	if (!call)
		return 0; /* already counted */
	call->begin = begin;
	call->version = now.version;
	call->index = index;
	call->pid = pid;
	call->call = number;
	call->every = now.every;
	call->_unused = 0;
	mapring_commit(&calls, call);
	return 0;
}

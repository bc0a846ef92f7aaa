// SPDX-License-Identifier: MIT OR Apache-2.0
/* A ring with a record for each system call. A larger ring can replace it. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct call {
	__u64 ns;
	__u32 pid, number;
};

MAPRING_RING(calls, struct call, 16, RESIZABLE); /* slots per CPU, at first */

SEC("raw_tp/sys_enter")
int on_enter(__u64 *ctx)
{
	struct call *call = mapring_reserve(&calls);

	if (!call)
		return 0; /* already counted */
	call->ns = bpf_ktime_get_ns();
	call->pid = bpf_get_current_pid_tgid() >> 32;
	call->number = ctx[1];
	mapring_commit(&calls, call);
	return 0;
}

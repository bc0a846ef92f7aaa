// SPDX-License-Identifier: MIT OR Apache-2.0
/* Counts each system call, and records its last caller. */
#include <mapring/cell.bpf.h>
#include <mapring/counters.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct caller {
	__u64 ns;
	__u32 pid, cpu;
	char comm[16];
};

MAPRING_COUNTERS(calls, 512);                  /* one bank per CPU */
MAPRING_CELLS(callers, struct caller, 512);    /* one table for all CPUs */

SEC("raw_tp/sys_enter")
int on_call(__u64 *ctx)
{
	__u64 nr = ctx[1];
	struct caller *caller;

	mapring_counter_inc(&calls, nr);
	caller = mapring_cell_begin(&callers, nr);
	if (!caller)
		return 0; /* another CPU is writing the cell: this update is dropped and counted */
	caller->ns = bpf_ktime_get_ns();
	caller->pid = bpf_get_current_pid_tgid() >> 32;
	caller->cpu = bpf_get_smp_processor_id();
	bpf_get_current_comm(caller->comm, sizeof(caller->comm));
	mapring_cell_end(caller);
	return 0;
}

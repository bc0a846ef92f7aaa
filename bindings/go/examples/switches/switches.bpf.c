//go:build ignore

// SPDX-License-Identifier: MIT OR Apache-2.0
#define MAPRING_NO_WEAK /* cilium/ebpf does not load weak maps */
#include <mapring/ring.bpf.h>

struct switch_event {
	__u64 ns;
	__u32 pid, cpu;
	char comm[16];
};

MAPRING_RING(switches, struct switch_event, 4096); /* slots per CPU */
char LICENSE[] SEC("license") = "GPL";

SEC("tp_btf/sched_switch")
int on_switch(void *ctx)
{
	mapring_record(switches, e) { /* skipped if no slot is free: counted */
		e->ns = bpf_ktime_get_ns();
		e->pid = bpf_get_current_pid_tgid() >> 32;
		e->cpu = bpf_get_smp_processor_id();
		bpf_get_current_comm(e->comm, sizeof(e->comm));
	}
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* A program of switches that only reads the clock: the least that a recorder by BPF does. */
#include <mapring/cell.bpf.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tp_btf/sched_switch")
int clock_switch(__u64 *ctx __attribute__((unused)))
{
	__u64 ns = bpf_ktime_get_ns();

	asm volatile("" : : "r"(ns));
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* A program of switches that does nothing: what the kernel takes to run a program. */
#include <mapring/cell.bpf.h>

char LICENSE[] SEC("license") = "GPL";

SEC("tp_btf/sched_switch")
int empty_switch(__u64 *ctx __attribute__((unused)))
{
	return 0;
}

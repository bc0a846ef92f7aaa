// SPDX-License-Identifier: MIT OR Apache-2.0
/* A program that reads both clocks. Tests run it by hand. */
#include <mapring/counters.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct stamps {
	__u64 monotonic, boottime;
};

SEC("syscall")
int stamp(struct stamps *stamps)
{
	stamps->monotonic = bpf_ktime_get_ns();
	stamps->boottime = bpf_ktime_get_boot_ns();
	return 0;
}

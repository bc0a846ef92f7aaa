// SPDX-License-Identifier: MIT OR Apache-2.0
/* A ring in a program whose license the kernel does not call GPL-compatible, or that has none (-DNO_LICENSE). */
#include <mapring/ring.bpf.h>

#ifndef NO_LICENSE
char LICENSE[] SEC("license") = "MIT";
#endif

MAPRING_RING(ring, __u64, 8);

SEC("syscall")
int write(void *ctx)
{
	(void)ctx;
	mapring_record(ring, record) {
		*record = 7;
	}
	return 0;
}

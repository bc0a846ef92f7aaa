// SPDX-License-Identifier: MIT OR Apache-2.0
/* The first of two files that libbpf's linker makes one object of. */
#include "maps.h"

char LICENSE[] SEC("license") = "GPL";
SEC("syscall")
int one(void *ctx)
{
	(void)ctx;
	write_all(1);
	return 0;
}

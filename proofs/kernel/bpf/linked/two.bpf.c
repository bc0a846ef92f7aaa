// SPDX-License-Identifier: MIT OR Apache-2.0
/* The second of two files that libbpf's linker makes one object of. */
#include "maps.h"

SEC("syscall")
int two(void *ctx)
{
	(void)ctx;
	write_all(2);
	return 0;
}

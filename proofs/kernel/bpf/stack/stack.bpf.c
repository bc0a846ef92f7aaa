// SPDX-License-Identifier: MIT OR Apache-2.0
/* Programs that have as many bytes of locals as docs/guide/rings.md promises beside a record, with each set of options. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct event {
	char comm[16];
};

/* All bytes are on the stack from the start to the end. */
#define PROGRAM(name, locals, write)                                  \
	SEC("syscall")                                                \
	int write_##name(void *ctx)                                   \
	{                                                             \
		char bytes[locals];                                   \
                                                                      \
		(void)ctx;                                            \
		asm volatile("" : : "r"(bytes) : "memory");           \
		bpf_get_current_comm(bytes, 16);                      \
		write(name);                                          \
		asm volatile("" : : "r"(bytes) : "memory");           \
		return 0;                                             \
	}

#define RECORD(name)                                                  \
	mapring_record(name, e) {                                     \
		__builtin_memcpy(e->comm, bytes, sizeof(e->comm));    \
	}

#define TAILED(name)                                                  \
	do {                                                          \
		void *tail;                                           \
		long len = 0;                                         \
                                                                      \
		mapring_record_with_tail(name, e, tail, len) {        \
			__builtin_memcpy(e->comm, bytes, sizeof(e->comm)); \
		}                                                     \
	} while (0)

/* The guide has these options, with the number after them. */
MAPRING_RING(plain, struct event, 64);
PROGRAM(plain, 416, RECORD)
MAPRING_RING(per_cpu, struct event, 64, PER_CPU_MAPS);
PROGRAM(per_cpu, 416, RECORD)
MAPRING_RING(wakes, struct event, 64, WAKEABLE);
PROGRAM(wakes, 400, RECORD)
MAPRING_RING(wakes_per_cpu, struct event, 64, WAKEABLE, PER_CPU_MAPS);
PROGRAM(wakes_per_cpu, 400, RECORD)
MAPRING_RING(keeps, struct event, 64, KEEP_OLDEST);
PROGRAM(keeps, 352, RECORD)
MAPRING_RING(keeps_per_cpu, struct event, 64, KEEP_OLDEST, PER_CPU_MAPS);
PROGRAM(keeps_per_cpu, 352, RECORD)
MAPRING_RING(tails, struct event, 64, TAILS(64, 128));
PROGRAM(tails, 304, TAILED)
MAPRING_RING(tails_per_cpu, struct event, 64, TAILS(64, 128), PER_CPU_MAPS);
PROGRAM(tails_per_cpu, 304, TAILED)
MAPRING_RING(wakes_tails, struct event, 64, WAKEABLE, TAILS(64, 128));
PROGRAM(wakes_tails, 304, TAILED)
MAPRING_RING(wakes_tails_per_cpu, struct event, 64, WAKEABLE, TAILS(64, 128), PER_CPU_MAPS);
PROGRAM(wakes_tails_per_cpu, 304, TAILED)
MAPRING_RING(keeps_tails, struct event, 64, KEEP_OLDEST, TAILS(64, 128));
PROGRAM(keeps_tails, 128, TAILED)
MAPRING_RING(keeps_tails_per_cpu, struct event, 64, KEEP_OLDEST, TAILS(64, 128), PER_CPU_MAPS);
PROGRAM(keeps_tails_per_cpu, 128, TAILED)
MAPRING_RING(resizable, struct event, 64, RESIZABLE);
PROGRAM(resizable, 352, RECORD)
MAPRING_RING(resizable_wakes, struct event, 64, WAKEABLE, RESIZABLE);
PROGRAM(resizable_wakes, 352, RECORD)

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The maps that both files declare, and that become one each. */
#include <mapring/counters.bpf.h>
#include <mapring/global.bpf.h>
#include <mapring/ring.bpf.h>

struct event {
	__u64 file, number;
};

MAPRING_RING(ring, struct event, 64);
MAPRING_RING(kept, struct event, 64, KEEP_OLDEST);
MAPRING_RING(tailed, struct event, 64, WAKEABLE, TAILS(64, 1024));
MAPRING_COUNTERS(counters, 2);
MAPRING_GLOBAL_CELL(latest, struct event);

static __always_inline void write_all(__u64 file)
{
	struct event event = { file, 7 };
	void *tail;
	long len = 0;

	mapring_output(&ring, &event);
	mapring_output(&kept, &event);
	mapring_record_with_tail(tailed, e, tail, len) {
		*e = event;
		*(__u64 *)tail = file;
		len = sizeof(__u64);
	}
	mapring_counter_inc(&counters, 1);
	mapring_cell_set(&latest, &event);
}

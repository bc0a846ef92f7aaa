// SPDX-License-Identifier: MIT OR Apache-2.0
/* For the tests of pins: a ring in three maps. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct woken_event {
	__u64 ns;
};

MAPRING_RING(woken, struct woken_event, 64, WAKEABLE);

/* Has a path without a commit. */
SEC("syscall")
int forget(__u64 *ns)
{
	struct woken_event *event = mapring_reserve(&woken);

	if (event)
		event->ns = *ns;
	return 0;
}

SEC("syscall")
int publish(__u64 *ns)
{
	struct woken_event event = { .ns = *ns };

	mapring_output(&woken, &event);
	return 0;
}

// SPDX-License-Identifier: MIT OR Apache-2.0
/* For the tests of `mapring pin`, `freeze` and `clean`: a ring in three maps. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct woken_event {
	__u64 ns;
};

MAPRING_RING(woken, struct woken_event, 64, WAKEABLE);

SEC("syscall")
int publish(__u64 *ns)
{
	struct woken_event event = { .ns = *ns };

	mapring_output(&woken, &event);
	return 0;
}

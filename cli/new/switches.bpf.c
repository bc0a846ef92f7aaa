#include <mapring/ring.bpf.h>

struct switch_event { __u64 ns; __u32 prev, next; char comm[16]; };
MAPRING_RING(switches, struct switch_event, 4096);      /* slots per CPU */
char LICENSE[] SEC("license") = "GPL";

SEC("tp_btf/sched_switch")
int on_switch(void *ctx)
{
	struct switch_event *e = mapring_reserve(&switches);
	if (!e)
		return 0;                               /* already counted */
	e->ns = bpf_ktime_get_ns();
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	mapring_commit(e);
	return 0;
}

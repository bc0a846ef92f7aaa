// SPDX-License-Identifier: MIT OR Apache-2.0
/* A writer in each context that programs run in. The tests load them one by one. */
#include <mapring/ring.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct item {
	__u64 n;
};

MAPRING_RING(ring, struct item, 64);

#define ON(name, section)                                     \
	SEC(section)                                          \
	int name(void *ctx __attribute__((unused)))           \
	{                                                     \
		struct item *item = mapring_reserve(&ring);   \
                                                              \
		if (item) {                                   \
			item->n = 1;                          \
			mapring_commit(&ring, item);          \
		}                                             \
		return 0;                                     \
	}

ON(on_xdp, "xdp")
ON(on_tc, "tc")
ON(on_perf_event, "perf_event")

ON(on_tp_btf_sched_switch, "tp_btf/sched_switch")
ON(on_tp_btf_sys_enter, "tp_btf/sys_enter")
ON(on_raw_tp, "raw_tp/sched_switch")
ON(on_raw_tp_writable, "raw_tp.w/sched_switch")
ON(on_tracepoint, "tp/sched/sched_switch")
ON(on_kprobe, "kprobe/do_nanosleep")
ON(on_uprobe, "uprobe")
ON(on_uprobe_sleepable, "uprobe.s")
ON(on_fentry, "fentry/do_nanosleep")
ON(on_fentry_sleepable, "fentry.s/__x64_sys_getpgid")
ON(on_fexit, "fexit/do_nanosleep")
ON(on_fmod_ret, "fmod_ret/bpf_modify_return_test")
ON(on_freplace, "freplace/other")
ON(on_iter, "iter/task")
ON(on_lsm, "lsm/file_open")
ON(on_lsm_cgroup, "lsm_cgroup/socket_post_create")
ON(on_struct_ops, "struct_ops/anything")
ON(on_syscall, "syscall")
ON(on_socket, "socket")
ON(on_sk_skb, "sk_skb")
ON(on_sk_msg, "sk_msg")
ON(on_sk_lookup, "sk_lookup")
ON(on_sk_reuseport, "sk_reuseport")
ON(on_sock_ops, "sockops")
ON(on_lwt_xmit, "lwt_xmit")
ON(on_action, "action")
ON(on_cgroup_skb, "cgroup_skb/egress")
ON(on_flow_dissector, "flow_dissector")
ON(on_netfilter, "netfilter")

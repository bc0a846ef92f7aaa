// SPDX-License-Identifier: MIT OR Apache-2.0
/* A record for each file that is opened. Programs drop new records rather than overwrite what the reader has not read. */
#include <mapring/ring.bpf.h>
#include "calls.h"

char LICENSE[] SEC("license") = "GPL";

struct open_event {
	__u64 ns, flags;
	__u32 pid, uid;
	__s32 ret; /* a file descriptor, or an error */
	__u32 pad;
	char comm[16];
};

/* Slots, the longest name, and the bytes of names, per CPU. */
MAPRING_RING(opens, struct open_event, 8192, KEEP_OLDEST, TAILS(4096, 1 << 20));

#ifdef __TARGET_ARCH_arm64
#define OPEN -1 /* there is only openat */
#define OPENAT 56
#else
#define OPEN 2
#define OPENAT 257
#endif
#define OPENAT2 437

/* The arguments of the calls that open files. */
static __always_inline int arguments(struct pt_regs *regs, const char **name, __u64 *flags)
{
	int call = CALL(regs);

	if (call == OPEN) {
		*name = (void *)ARGUMENT_0(regs);
		*flags = ARGUMENT_1(regs);
		return 1;
	}
	*name = (void *)ARGUMENT_1(regs);
	*flags = ARGUMENT_2(regs);
	if (call == OPENAT2 && bpf_probe_read_user(flags, sizeof(*flags), (void *)ARGUMENT_2(regs)))
		*flags = 0; /* it has a struct that starts with the flags */
	return call == OPENAT || call == OPENAT2;
}

/* Returns 1 if the record of this call was dropped. */
static __always_inline int call_ended(struct pt_regs *regs, long ret)
{
	struct open_event *e;
	const char *name;
	__u64 flags;

	if (!arguments(regs, &name, &flags))
		return 0;
	e = mapring_reserve(&opens);
	if (!e)
		return 1; /* already counted */
	e->ns = bpf_ktime_get_ns();
	e->flags = flags;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->uid = bpf_get_current_uid_gid();
	e->ret = ret;
	e->pad = 0;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	/* Of an error: no name. */
	return mapring_commit_tail(&opens, e, bpf_probe_read_user_str(mapring_tail(&opens, e), 4096, name)) != 0;
}

SEC("tp_btf/sys_exit")
int on_sys_exit(__u64 *ctx)
{
	call_ended((void *)ctx[0], ctx[1]);
	return 0;
}

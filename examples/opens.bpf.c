// SPDX-License-Identifier: MIT OR Apache-2.0
/* A record for each file that is opened. Programs drop new records rather than overwrite what the reader has not read. */
#include <mapring/keep_oldest.bpf.h>

char LICENSE[] SEC("license") = "GPL";

struct open_event {
	__u64 ns, flags;
	__u32 pid, uid;
	__s32 ret; /* a file descriptor, or an error */
	__u32 pad;
	char comm[16];
	char name[256];
};

MAPRING_KEEP_OLDEST_RING(opens, struct open_event, 1024); /* slots per CPU */

/* The only fields that are read. libbpf finds their offsets when it loads the program. */
#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
#ifdef __TARGET_ARCH_arm64
struct pt_regs {
	__u64 regs[31];
	__u64 orig_x0;
	int syscallno;
};
#define CALL(regs) ((regs)->syscallno)
#define ARGUMENT_0(regs) ((regs)->orig_x0)
#define ARGUMENT_1(regs) ((regs)->regs[1])
#define ARGUMENT_2(regs) ((regs)->regs[2])
#define OPEN -1 /* there is only openat */
#define OPENAT 56
#else /* x86-64: on any other machine the load fails, because these fields are missing */
struct pt_regs {
	unsigned long di, si, dx, orig_ax;
};
#define CALL(regs) ((int)(regs)->orig_ax)
#define ARGUMENT_0(regs) ((regs)->di)
#define ARGUMENT_1(regs) ((regs)->si)
#define ARGUMENT_2(regs) ((regs)->dx)
#define OPEN 2
#define OPENAT 257
#endif
#define OPENAT2 437
#pragma clang attribute pop

/* The arguments of the calls that open files. The kernel leaves them in the registers until the call ends. */
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

static __always_inline int call_ended(struct pt_regs *regs, long ret)
{
	struct open_event *e;
	const char *name;
	__u64 flags;

	if (!arguments(regs, &name, &flags))
		return 0;
	e = mapring_reserve(&opens);
	if (!e)
		return 0; /* already counted */
	e->ns = bpf_ktime_get_ns();
	e->flags = flags;
	e->pid = bpf_get_current_pid_tgid() >> 32;
	e->uid = bpf_get_current_uid_gid();
	e->ret = ret;
	e->pad = 0;
	bpf_get_current_comm(e->comm, sizeof(e->comm));
	if (bpf_probe_read_user_str(e->name, sizeof(e->name), name) < 0)
		e->name[0] = 0;
	mapring_commit(&opens, e);
	return 0;
}

SEC("tp_btf/sys_exit")
int on_sys_exit(__u64 *ctx)
{
	return call_ended((void *)ctx[0], ctx[1]);
}

/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* The number and the arguments of a system call. The kernel leaves them in the registers until the call ends. */
#ifndef CALLS_H
#define CALLS_H

/* Only the fields that are read. libbpf finds their offsets when it loads the program. */
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
#else /* x86-64: on any other machine the load fails, because these fields are missing */
struct pt_regs {
	unsigned long di, si, dx, orig_ax;
};
#define CALL(regs) ((int)(regs)->orig_ax)
#define ARGUMENT_0(regs) ((regs)->di)
#define ARGUMENT_1(regs) ((regs)->si)
#define ARGUMENT_2(regs) ((regs)->dx)
#endif
#pragma clang attribute pop

#endif

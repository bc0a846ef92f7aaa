# clang 14.0.6
	r6 = r1
	call 8
	r8 = r0
	*(u32 *)(r10 - 4) = r8
	r2 = r10
	r2 += -4
	r1 = numa ll
	call 1
	r7 = r0
	if r7 != 0 goto L4
	r1 = 0
	*(u32 *)(r10 - 4) = r1
	r2 = r10
	r2 += -4
	r1 = numa ll
	call 1
	r8 = 4294967295 ll
	if r0 == 0 goto L18
	r6 = 1
	*(u32 *)(r10 - 4) = r6
	r2 = r10
	r2 += -4
	r1 = r0
	call 1
	if r0 == 0 goto L18
	r0 += 32
	#APP
	lock *(u64 *)(r0 + 0) += r6
	#NO_APP
	goto L18
L4:
	r1 = 2
	*(u32 *)(r10 - 4) = r1
	r2 = r10
	r2 += -4
	r1 = r7
	call 1
	r1 = bpf_preempt_disable ll
	*(u64 *)(r10 - 16) = r6
	if r1 == 0 goto L6
	r1 = mapring__guard_is_slow ll
	r1 = *(u32 *)(r1 + 0)
	if r1 == 0 goto L10
L6:
	if r0 == 0 goto L15
	r6 = *(u64 *)(r0 + 0)
	r1 = r6
	r1 &= 4095
	r1 += 3
	*(u32 *)(r10 - 4) = r1
	r2 = r10
	r2 += -4
	r1 = r7
	r9 = r0
	call 1
	r4 = r9
	r9 = r0
	if r9 == 0 goto L15
	r2 = r6
	r2 >>= 11
	r1 = 9007199254740990 ll
	r3 = r2
	r3 &= r1
	r2 |= 1
	r1 = r9
	r0 = r3
	#APP
	r0 = cmpxchg_64(r1 + 0, r0, r2)
	#NO_APP
	if r0 != r3 goto L15
	r6 += 1
	*(u64 *)(r4 + 0) = r6
	goto L17
L10:
	if r0 == 0 goto L15
	r6 = r0
	call bpf_preempt_disable
	r1 = *(u64 *)(r6 + 0)
	*(u64 *)(r10 - 24) = r1
	r1 &= 4095
	r1 += 3
	*(u32 *)(r10 - 4) = r1
	r2 = r10
	r2 += -4
	r1 = r7
	call 1
	r9 = r0
	if r9 == 0 goto L14
	r0 = *(u64 *)(r10 - 24)
	r1 = r0
	r1 >>= 11
	r2 = r0
	r2 += 1
	r3 = -9223372036854775808 ll
	r4 = r2
	r4 |= r3
	*(u64 *)(r6 + 0) = r4
	r3 = 9007199254740990 ll
	r4 = r1
	r4 &= r3
	r3 = *(u64 *)(r9 + 0)
	r5 = 9223372036854775807 ll
	r3 &= r5
	if r3 == r4 goto L19
	*(u64 *)(r6 + 0) = r0
L14:
	call bpf_preempt_enable
L15:
	r1 = r8
	call mapring__claim__numa
	r8 = 4294967295 ll
	r1 = 0
	if r1 s> r0 goto L18
	r0 &= 4095
	r0 += 3
	*(u32 *)(r10 - 4) = r0
	r2 = r10
	r2 += -4
	r1 = r7
	call 1
	r9 = r0
	if r9 == 0 goto L18
L19:
	r1 |= 1
	*(u64 *)(r9 + 0) = r1
	*(u64 *)(r6 + 0) = r2
	call bpf_preempt_enable
	goto L17
L17:
	#APP
	#NO_APP
	r2 = *(u64 *)(r10 - 16)
	r1 = *(u64 *)(r2 + 0)
	*(u64 *)(r9 + 8) = r1
	r1 = *(u64 *)(r2 + 8)
	*(u64 *)(r9 + 16) = r1
	r1 = *(u64 *)(r2 + 16)
	*(u64 *)(r9 + 24) = r1
	r1 = *(u64 *)(r2 + 24)
	*(u64 *)(r9 + 32) = r1
	r1 = *(u64 *)(r2 + 32)
	*(u64 *)(r9 + 40) = r1
	r1 = *(u64 *)(r2 + 40)
	*(u64 *)(r9 + 48) = r1
	r1 = *(u64 *)(r2 + 48)
	*(u64 *)(r9 + 56) = r1
	r1 = *(u64 *)(r9 + 0)
	#APP
	#NO_APP
	r1 += 1
	*(u64 *)(r9 + 0) = r1
	r8 = 0
L18:
	r0 = r8
	exit

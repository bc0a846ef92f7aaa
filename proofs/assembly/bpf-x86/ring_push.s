# clang 14.0.6
	r6 = r1
	call 8
	r7 = r0
	r7 *= 4097
	r8 = r7
	r8 += 2
	*(u32 *)(r10 - 4) = r8
	r2 = r10
	r2 += -4
	r1 = ring ll
	call 1
	r1 = bpf_preempt_disable ll
	*(u64 *)(r10 - 16) = r6
	if r1 == 0 goto L2
	r1 = mapring__guard_is_slow ll
	r1 = *(u32 *)(r1 + 0)
	if r1 == 0 goto L6
L2:
	if r0 == 0 goto L11
	r9 = *(u64 *)(r0 + 0)
	r1 = r9
	r1 &= 4095
	r2 = r7
	r2 += r1
	r2 += 3
	*(u32 *)(r10 - 4) = r2
	r2 = r10
	r2 += -4
	r1 = ring ll
	r6 = r0
	call 1
	r4 = r6
	r6 = r0
	if r6 == 0 goto L11
	r2 = r9
	r2 >>= 11
	r1 = 9007199254740990 ll
	r3 = r2
	r3 &= r1
	r2 |= 1
	r1 = r6
	r0 = r3
	#APP
	r0 = cmpxchg_64(r1 + 0, r0, r2)
	#NO_APP
	if r0 != r3 goto L11
	r9 += 1
	*(u64 *)(r4 + 0) = r9
	goto L13
L6:
	if r0 == 0 goto L11
	r9 = r0
	call bpf_preempt_disable
	r1 = *(u64 *)(r9 + 0)
	*(u64 *)(r10 - 24) = r1
	r1 &= 4095
	r2 = r7
	r2 += r1
	r2 += 3
	*(u32 *)(r10 - 4) = r2
	r2 = r10
	r2 += -4
	r1 = ring ll
	call 1
	r6 = r0
	if r6 == 0 goto L10
	r0 = *(u64 *)(r10 - 24)
	r1 = r0
	r1 >>= 11
	r2 = r0
	r2 += 1
	r3 = -9223372036854775808 ll
	r4 = r2
	r4 |= r3
	*(u64 *)(r9 + 0) = r4
	r3 = 9007199254740990 ll
	r4 = r1
	r4 &= r3
	r3 = *(u64 *)(r6 + 0)
	r5 = 9223372036854775807 ll
	r3 &= r5
	if r3 == r4 goto L15
	*(u64 *)(r9 + 0) = r0
L10:
	call bpf_preempt_enable
L11:
	r1 = r8
	call mapring__claim__ring
	r8 = 4294967295 ll
	r1 = 0
	if r1 s> r0 goto L14
	r0 &= 4095
	r7 += r0
	r7 += 3
	*(u32 *)(r10 - 4) = r7
	r2 = r10
	r2 += -4
	r1 = ring ll
	call 1
	r6 = r0
	if r6 == 0 goto L14
L15:
	r1 |= 1
	*(u64 *)(r6 + 0) = r1
	*(u64 *)(r9 + 0) = r2
	call bpf_preempt_enable
	goto L13
L13:
	#APP
	#NO_APP
	r2 = *(u64 *)(r10 - 16)
	r1 = *(u64 *)(r2 + 0)
	*(u64 *)(r6 + 8) = r1
	r1 = *(u64 *)(r2 + 8)
	*(u64 *)(r6 + 16) = r1
	r1 = *(u64 *)(r2 + 16)
	*(u64 *)(r6 + 24) = r1
	r1 = *(u64 *)(r2 + 24)
	*(u64 *)(r6 + 32) = r1
	r1 = *(u64 *)(r2 + 32)
	*(u64 *)(r6 + 40) = r1
	r1 = *(u64 *)(r2 + 40)
	*(u64 *)(r6 + 48) = r1
	r1 = *(u64 *)(r2 + 48)
	*(u64 *)(r6 + 56) = r1
	r1 = *(u64 *)(r6 + 0)
	#APP
	#NO_APP
	r1 += 1
	*(u64 *)(r6 + 0) = r1
	r8 = 0
L14:
	r0 = r8
	exit

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
	if r0 == 0 goto L11
	r6 = 1
	*(u32 *)(r10 - 4) = r6
	r2 = r10
	r2 += -4
	r1 = r0
	call 1
	if r0 == 0 goto L11
	r0 += 32
	#APP
	lock *(u64 *)(r0 + 0) += r6
	#NO_APP
	goto L11
L4:
	*(u64 *)(r10 - 16) = r6
	r1 = 2
	*(u32 *)(r10 - 4) = r1
	r2 = r10
	r2 += -4
	r1 = r7
	call 1
	r9 = r0
	if r9 == 0 goto L8
	r6 = *(u64 *)(r9 + 0)
	r1 = r6
	r1 &= 4095
	r1 += 3
	*(u32 *)(r10 - 4) = r1
	r2 = r10
	r2 += -4
	r1 = r7
	call 1
	r1 = r0
	if r1 == 0 goto L8
	r2 = r6
	r2 >>= 11
	r4 = 9007199254740990 ll
	r3 = r2
	r3 &= r4
	r2 |= 1
	r0 = r3
	#APP
	r0 = cmpxchg_64(r1 + 0, r0, r2)
	#NO_APP
	if r0 != r3 goto L8
	r6 += 1
	*(u64 *)(r9 + 0) = r6
	goto L10
L8:
	r1 = r8
	call mapring__claim__numa
	r8 = 4294967295 ll
	r1 = 0
	if r1 s> r0 goto L11
	r0 &= 4095
	r0 += 3
	*(u32 *)(r10 - 4) = r0
	r2 = r10
	r2 += -4
	r1 = r7
	call 1
	r1 = r0
	if r1 == 0 goto L11
L10:
	#APP
	#NO_APP
	r3 = *(u64 *)(r10 - 16)
	r2 = *(u64 *)(r3 + 0)
	*(u64 *)(r1 + 8) = r2
	r2 = *(u64 *)(r3 + 8)
	*(u64 *)(r1 + 16) = r2
	r2 = *(u64 *)(r3 + 16)
	*(u64 *)(r1 + 24) = r2
	r2 = *(u64 *)(r3 + 24)
	*(u64 *)(r1 + 32) = r2
	r2 = *(u64 *)(r3 + 32)
	*(u64 *)(r1 + 40) = r2
	r2 = *(u64 *)(r3 + 40)
	*(u64 *)(r1 + 48) = r2
	r2 = *(u64 *)(r3 + 48)
	*(u64 *)(r1 + 56) = r2
	r2 = *(u64 *)(r1 + 0)
	r2 += 1
	#APP
	r2 = xchg_64(r1 + 0, r2)
	#NO_APP
	r8 = 0
L11:
	r0 = r8
	exit

# clang 14.0.6
	*(u64 *)(r10 - 24) = r1
	call 8
	r7 = r0
	r7 *= 4097
	r8 = r7
	r8 += 2
	*(u32 *)(r10 - 12) = r8
	r2 = r10
	r2 += -12
	r1 = ring ll
	call 1
	r9 = r0
	if r9 == 0 goto L4
	r6 = *(u64 *)(r9 + 0)
	r1 = r6
	r1 &= 4095
	r2 = r7
	r2 += r1
	r2 += 3
	*(u32 *)(r10 - 8) = r2
	r2 = r10
	r2 += -8
	r1 = ring ll
	call 1
	r1 = r0
	if r1 == 0 goto L4
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
	if r0 != r3 goto L4
	r6 += 1
	*(u64 *)(r9 + 0) = r6
	goto L6
L4:
	r1 = r8
	call mapring__claim__ring
	r8 = 4294967295 ll
	r1 = 0
	if r1 s> r0 goto L7
	r0 &= 4095
	r7 += r0
	r7 += 3
	*(u32 *)(r10 - 4) = r7
	r2 = r10
	r2 += -4
	r1 = ring ll
	call 1
	r1 = r0
	if r1 == 0 goto L7
L6:
	#APP
	#NO_APP
	r3 = *(u64 *)(r10 - 24)
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
L7:
	r0 = r8
	exit

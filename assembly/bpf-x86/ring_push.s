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
	if r0 == 0 goto L10
	*(u64 *)(r10 - 32) = r0
	r6 = *(u64 *)(r0 + 0)
	r1 = r6
	r1 &= 4095
	r2 = r7
	r2 += r1
	r2 += 3
	*(u32 *)(r10 - 8) = r2
	*(u64 *)(r10 - 40) = r6
	r6 >>= 11
	r1 = 9007199254740990 ll
	r9 = r6
	r9 &= r1
	r2 = r10
	r2 += -8
	r1 = ring ll
	call 1
	r1 = r0
	r2 = mapring__nested__ring ll
	r2 = *(u32 *)(r2 + 0)
	if r2 == 0 goto L6
	r5 = *(u64 *)(r10 - 32)
	if r1 == 0 goto L10
	r2 = 0
	r3 = *(u64 *)(r10 - 40)
	if r2 s> r3 goto L10
	r0 = *(u64 *)(r10 - 40)
	r2 = r0
	r2 += 1
	r3 = -9223372036854775808 ll
	r4 = r2
	r4 |= r3
	*(u64 *)(r5 + 0) = r4
	r3 = *(u64 *)(r1 + 0)
	if r3 != r9 goto L9
	r6 |= 1
	*(u64 *)(r1 + 0) = r6
	*(u64 *)(r5 + 0) = r2
	goto L12
L6:
	r3 = *(u64 *)(r10 - 32)
	if r1 == 0 goto L10
	r6 |= 1
	r2 = r6
	r0 = r9
	#APP
	r0 = cmpxchg_64(r1 + 0, r0, r2)
	#NO_APP
	if r0 != r9 goto L10
	r2 = *(u64 *)(r10 - 40)
	r2 += 1
	*(u64 *)(r3 + 0) = r2
	goto L12
L9:
	*(u64 *)(r5 + 0) = r0
L10:
	r1 = r8
	call mapring__claim__ring
	r6 = 4294967295 ll
	r1 = 0
	if r1 s> r0 goto L13
	r0 &= 4095
	r7 += r0
	r7 += 3
	*(u32 *)(r10 - 4) = r7
	r2 = r10
	r2 += -4
	r1 = ring ll
	call 1
	r1 = r0
	if r1 == 0 goto L13
L12:
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
	#APP
	#NO_APP
	r2 += 1
	*(u64 *)(r1 + 0) = r2
	r6 = 0
L13:
	r0 = r6
	exit

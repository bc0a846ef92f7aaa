# clang 14.0.6
	r6 = r1
	r1 = 2
	*(u32 *)(r10 - 8) = r1
	r2 = r10
	r2 += -8
	r1 = cell ll
	call 1
	r1 = r0
	if r1 == 0 goto L3
	r3 = *(u64 *)(r1 + 0)
	r2 = r3
	r2 &= 1
	if r2 != 0 goto L3
	r2 = r3
	r2 += 1
	r0 = r3
	#APP
	r0 = cmpxchg_64(r1 + 0, r0, r2)
	#NO_APP
	if r0 == r3 goto L5
L3:
	r6 = 1
	*(u32 *)(r10 - 4) = r6
	r2 = r10
	r2 += -4
	r1 = cell ll
	call 1
	r1 = r0
	r0 = 4294967295 ll
	if r1 == 0 goto L6
	r1 += 32
	#APP
	lock *(u64 *)(r1 + 0) += r6
	#NO_APP
	goto L6
L5:
	r2 = *(u64 *)(r6 + 48)
	*(u64 *)(r1 + 56) = r2
	r2 = *(u64 *)(r6 + 40)
	*(u64 *)(r1 + 48) = r2
	r2 = *(u64 *)(r6 + 32)
	*(u64 *)(r1 + 40) = r2
	r2 = *(u64 *)(r6 + 24)
	*(u64 *)(r1 + 32) = r2
	r2 = *(u64 *)(r6 + 16)
	*(u64 *)(r1 + 24) = r2
	r2 = *(u64 *)(r6 + 8)
	*(u64 *)(r1 + 16) = r2
	r2 = *(u64 *)(r6 + 0)
	*(u64 *)(r1 + 8) = r2
	r2 = *(u64 *)(r1 + 0)
	#APP
	#NO_APP
	r2 += 1
	*(u64 *)(r1 + 0) = r2
	r0 = 0
L6:
	exit

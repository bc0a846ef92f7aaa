# clang 14.0.6
	r6 = *(u64 *)(r1 + 0)
	call 8
	r7 = 3
	#APP
	#NO_APP
	if r7 > 7 goto L3
	r0 += 2
	*(u32 *)(r10 - 8) = r0
	r2 = r10
	r2 += -8
	r1 = counters ll
	call 1
	if r0 == 0 goto L3
	r7 <<= 3
	r0 += r7
	#APP
	lock *(u64 *)(r0 + 0) += r6
	#NO_APP
	goto L5
L3:
	r6 = 1
	*(u32 *)(r10 - 4) = r6
	r2 = r10
	r2 += -4
	r1 = counters ll
	call 1
	if r0 == 0 goto L5
	r0 += 32
	#APP
	lock *(u64 *)(r0 + 0) += r6
	#NO_APP
L5:
	r0 = 0
	exit

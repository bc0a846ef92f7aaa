// rustc rustc 1.95.0 (59807616e 2026-04-14)
	stp x29, x30, [sp, #-32]!
	str x19, [sp, #16]
	mov x29, sp
	ldr w10, [x1, #48]
	mov x8, #-1
	ldr x11, [x0, #112]
	ldr x9, [x1, #40]
	ldr x12, [x1, #24]
	lsl x8, x8, x10
	bic x8, x11, x8
	madd x8, x8, x9, x12
	ldr x9, [x1, #8]
	subs x12, x9, #8
	b.lo L17
	cmp x8, x12
	b.hi L17
	ldr x9, [x1]
	lsr x12, x11, x10
	add x13, x9, x8, lsl #3
	lsl x9, x12, #1
	add x12, x11, #1
	ldr x8, [x13]
	add x9, x9, #2
	cmp x8, x9
	b.ne L5
	dmb ishld
	ldr x15, [x13, #8]
	ldr x14, [x13, #16]
	stp x15, x14, [x2]
	ldr x15, [x13, #24]
	ldr x14, [x13, #32]
	stp x15, x14, [x2, #16]
	ldr x15, [x13, #40]
	ldr x14, [x13, #48]
	stp x15, x14, [x2, #32]
	ldr x14, [x13, #56]
	str x14, [x2, #48]
	dmb ishld
	ldr x13, [x13]
	cmp x13, x9
	b.ne L11
	mov x14, xzr
	mov w13, #1
	mov x19, x11
	add x12, x12, xzr
	cmp x12, x11
	b.ne L6
	b L7
L5:
	mov w13, wzr
	mov x14, #-1
	mov x19, x8
	add x12, x12, x14
	cmp x12, x11
	b.eq L7
L6:
	ldr x11, [x0, #128]
	str x12, [x0, #112]
	str wzr, [x0, #248]
	add x11, x14, x11
	add x11, x11, #1
	str x11, [x0, #128]
L7:
	tbz w13, #0, L9
	mov x0, xzr
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L9:
	cmp x8, x9
	b.ne L12
	ldr x8, [x0, #168]
	add x8, x8, #1
	str x8, [x0, #168]
	mov w0, #1
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L11:
	mov w13, wzr
	mov x14, #-1
	mov x19, x9
	add x12, x12, x14
	cmp x12, x11
	b.ne L6
	b L7
L12:
	ldr x8, [x0, #112]
	and x9, x10, #0x3f
	lsr x8, x8, x9
	lsl x9, x8, #1
	and x8, x19, #0x7fffffffffffffff
	add x3, x9, #2
	subs x10, x8, x3
	ccmp x10, #0, #0, ne
	b.le L14
L13:
	mov x2, x19
	bl _ZN7mapring8protocol4ring7consume6Cursor4passE
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L14:
	orr x9, x9, #0x1
	ldr w10, [x0, #248]
	cmp x8, x9
	ldr x9, [x0, #120]
	cset w11, ne
	add w8, w10, #1
	strb w11, [x0, #256]
	str w8, [x0, #248]
	cbz x9, L13
	and w8, w8, #0xf
	cbz w8, L13
	mov w0, #2
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L17:
	mov x0, x8
	mov w1, #8
	mov x2, x9
	bl _ZN7mapring8protocol5words7outsideE

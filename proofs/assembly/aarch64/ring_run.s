// rustc rustc 1.95.0 (59807616e 2026-04-14)
	stp x29, x30, [sp, #-64]!
	stp x24, x23, [sp, #16]
	stp x22, x21, [sp, #32]
	stp x20, x19, [sp, #48]
	mov x29, sp
	ldr w11, [x1, #48]
	mov w9, #1
	ldr x21, [x0, #112]
	mov x19, x0
	lsl x9, x9, x11
	sub x10, x9, #1
	and x10, x10, x21
	sub x9, x9, x10
	cmp x2, x9
	csel x12, x2, x9, lo
	cbz x12, L17
	and x10, x11, #0x3f
	mov x9, #-1
	ldr x14, [x1, #40]
	lsl x9, x9, x10
	ldr x13, [x1, #24]
	bic x9, x21, x9
	madd x0, x9, x14, x13
	ldr x9, [x1, #8]
	subs x15, x9, #8
	b.lo L26
	lsr x11, x21, x11
	ldr x13, [x1]
	lsl x16, x14, #3
	mov x20, xzr
	lsl x11, x11, #1
	add x13, x13, x0, lsl #3
	add x2, x11, #2
	add x17, x13, #32
	mov w11, #2
	mov x13, x21
L3:
	cmp x0, x15
	b.hi L23
	ldur x18, [x17, #-32]
	cmp x18, x2
	b.ne L19
	dmb ishld
	ldur x18, [x17, #-24]
	ldur x5, [x17, #-16]
	ldur x6, [x17, #-8]
	ldr x22, [x17]
	ldr x7, [x17, #8]
	ldr x23, [x17, #16]
	ldr x4, [x17, #24]
	dmb ishld
	ldur x24, [x17, #-32]
	cmp x24, x2
	b.ne L8
	add x18, x5, x18
	add x5, x6, x22
	add x6, x7, x23
	ldr x7, [x3]
	add x18, x18, x5
	add x4, x6, x4
	add x20, x20, #1
	add x18, x18, x4
	add x17, x17, x16
	add x18, x18, x7
	cmp x12, x20
	add x13, x13, #1
	add x0, x0, x14
	str x18, [x3]
	b.ne L3
	mov x11, xzr
	add x13, x21, x12
	mov x20, x12
L8:
	subs x9, x13, x21
	b.eq L10
L9:
	ldr x12, [x19, #128]
	str x13, [x19, #112]
	str wzr, [x19, #248]
	add x9, x9, x12
	str x9, [x19, #128]
L10:
	cmp x11, #2
	b.eq L20
	cmp x11, #1
	b.ne L18
	ldr x9, [x19, #112]
	lsr x9, x9, x10
	lsl x10, x9, #1
	and x9, x2, #0x7fffffffffffffff
	add x3, x10, #2
	subs x11, x9, x3
	b.eq L22
	cmp x11, #0
	b.gt L22
	orr x10, x10, #0x1
	ldr w11, [x19, #248]
	cmp x9, x10
	ldr x10, [x19, #120]
	cset w12, ne
	add w9, w11, #1
	strb w12, [x19, #256]
	str w9, [x19, #248]
	cbz x10, L22
	and w9, w9, #0xf
	cbz w9, L22
	mov w0, #2
	stp x20, x0, [x8]
	ldp x20, x19, [sp, #48]
	ldp x22, x21, [sp, #32]
	ldp x24, x23, [sp, #16]
	ldp x29, x30, [sp], #64
	ret
L17:
	mov x20, xzr
L18:
	mov x9, xzr
	b L21
L19:
	add x13, x21, x20
	mov w11, #1
	mov x2, x18
	subs x9, x13, x21
	b.ne L9
	b L10
L20:
	mov w9, #1
L21:
	ldr x10, [x19, #168]
	mov w0, #1
	add x9, x10, x9
	str x9, [x19, #168]
	stp x20, x0, [x8]
	ldp x20, x19, [sp, #48]
	ldp x22, x21, [sp, #32]
	ldp x24, x23, [sp, #16]
	ldp x29, x30, [sp], #64
	ret
L22:
	mov x0, x19
	mov x19, x8
	bl _ZN7mapring8protocol4ring7consume6Cursor4passE
	stp x20, x0, [x19]
	ldp x20, x19, [sp, #48]
	ldp x22, x21, [sp, #32]
	ldp x24, x23, [sp, #16]
	ldp x29, x30, [sp], #64
	ret
L23:
	add x20, x21, x20
L24:
	mov w1, #8
	mov x2, x9
	bl _ZN7mapring8protocol5words7outsideE
	brk #0x1
L26:
	mov x20, x21
	b L24
L27:
	subs x8, x20, x21
	b.eq L29
	ldr x9, [x19, #128]
	str x20, [x19, #112]
	str wzr, [x19, #248]
	add x8, x8, x9
	str x8, [x19, #128]
L29:
	bl _Unwind_Resume

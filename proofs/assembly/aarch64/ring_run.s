// rustc rustc 1.95.0 (59807616e 2026-04-14)
	stp x29, x30, [sp, #-64]!
	str x23, [sp, #16]
	stp x22, x21, [sp, #32]
	stp x20, x19, [sp, #48]
	mov x29, sp
	ldr x13, [x0, #88]
	mov x19, x0
	cbz x2, L7
	ldr w9, [x1, #48]
	mov x10, #-1
	ldr x15, [x1, #24]
	ldr x16, [x1, #40]
	mov x20, xzr
	mov x21, x13
	and x14, x9, #0x3f
	lsl x10, x10, x9
	ldp x17, x9, [x1]
	mvn x18, x10
	mov w10, #1
L2:
	and x11, x21, x18
	madd x0, x16, x11, x15
	subs x6, x9, x0
	b.ls L20
	lsr x11, x21, x14
	add x5, x17, x0, lsl #3
	lsl x4, x11, #1
	ldr x12, [x5]
	add x11, x4, #2
	cmp x12, x11
	b.ne L10
	cmp x6, #8
	b.lo L19
	dmb ishld
	ldr x12, [x5, #8]
	ldr x4, [x5, #16]
	ldr x6, [x5, #24]
	ldr x22, [x5, #32]
	ldr x7, [x5, #40]
	ldr x23, [x5, #48]
	ldr x0, [x5, #56]
	dmb ishld
	ldr x5, [x5]
	cmp x5, x11
	b.ne L14
	add x11, x4, x12
	add x12, x6, x22
	add x4, x7, x23
	ldr x5, [x3]
	add x11, x11, x12
	add x12, x4, x0
	add x11, x11, x12
	sub x20, x20, #1
	add x21, x21, #1
	add x11, x11, x5
	cmn x2, x20
	str x11, [x3]
	b.ne L2
	b L8
L7:
	mov x21, x13
L8:
	mov w10, #1
	subs x9, x21, x13
	stp x2, x10, [x8]
	b.ne L15
L9:
	ldp x20, x19, [sp, #48]
	ldr x23, [sp, #16]
	ldp x22, x21, [sp, #32]
	ldp x29, x30, [sp], #64
	ret
L10:
	cbz x20, L12
	ldr x9, [x19, #104]
	str x21, [x19, #88]
	str wzr, [x19, #200]
	sub x9, x9, x20
	str x9, [x19, #104]
L12:
	and x9, x12, #0x7fffffffffffffff
	neg x20, x20
	subs x10, x9, x11
	ccmp x10, #0, #0, ne
	b.le L16
L13:
	mov x0, x19
	mov x2, x12
	mov x3, x11
	mov x19, x8
	bl _ZN7mapring8protocol4ring7consume6Cursor4passE
	stp x20, x0, [x19]
	ldp x20, x19, [sp, #48]
	ldr x23, [sp, #16]
	ldp x22, x21, [sp, #32]
	ldp x29, x30, [sp], #64
	ret
L14:
	ldr x9, [x19, #144]
	neg x2, x20
	add x9, x9, #1
	str x9, [x19, #144]
	mov w10, #1
	subs x9, x21, x13
	stp x2, x10, [x8]
	b.eq L9
L15:
	ldr x8, [x19, #104]
	str x21, [x19, #88]
	str wzr, [x19, #200]
	add x8, x9, x8
	str x8, [x19, #104]
	ldp x20, x19, [sp, #48]
	ldr x23, [sp, #16]
	ldp x22, x21, [sp, #32]
	ldp x29, x30, [sp], #64
	ret
L16:
	orr x10, x4, #0x1
	ldr w13, [x19, #200]
	cmp x9, x10
	ldr x10, [x19, #96]
	cset w14, ne
	add w9, w13, #1
	strb w14, [x19, #208]
	str w9, [x19, #200]
	cbz x10, L13
	and w9, w9, #0xf
	cbz w9, L13
	mov w9, #2
	stp x20, x9, [x8]
	ldp x20, x19, [sp, #48]
	ldr x23, [sp, #16]
	ldp x22, x21, [sp, #32]
	ldp x29, x30, [sp], #64
	ret
L19:
	mov w10, #8
L20:
	mov x1, x10
	mov x2, x9
	bl _ZN7mapring8protocol5words7outsideE
	brk #0x1
L22:
	cbz x20, L24
	ldr x8, [x19, #104]
	str x21, [x19, #88]
	str wzr, [x19, #200]
	sub x8, x8, x20
	str x8, [x19, #104]
L24:
	bl _Unwind_Resume

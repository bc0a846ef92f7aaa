// rustc rustc 1.95.0 (59807616e 2026-04-14)
	stp x29, x30, [sp, #-32]!
	str x19, [sp, #16]
	mov x29, sp
	ldr w11, [x1, #48]
	mov x8, #-1
	ldr x19, [x0, #88]
	ldr x9, [x1, #40]
	ldr x10, [x1, #24]
	lsl x8, x8, x11
	bic x8, x19, x8
	madd x9, x9, x8, x10
	ldr x8, [x1, #8]
	subs x12, x8, x9
	b.ls L11
	ldr x13, [x1]
	lsr x14, x19, x11
	mov x10, x2
	add x11, x13, x9, lsl #3
	lsl x13, x14, #1
	ldr x2, [x11]
	add x3, x13, #2
	cmp x2, x3
	b.ne L5
	cmp x12, #7
	b.ls L12
	dmb ishld
	ldr x9, [x11, #8]
	ldr x8, [x11, #16]
	stp x9, x8, [x10]
	ldr x9, [x11, #24]
	ldr x8, [x11, #32]
	stp x9, x8, [x10, #16]
	ldr x9, [x11, #40]
	ldr x8, [x11, #48]
	stp x9, x8, [x10, #32]
	ldr x8, [x11, #56]
	str x8, [x10, #48]
	dmb ishld
	ldr x8, [x11]
	cmp x8, x3
	b.ne L10
	ldr x9, [x0, #104]
	add x10, x19, #1
	str wzr, [x0, #200]
	str x10, [x0, #88]
	add x9, x9, #1
	str x9, [x0, #104]
	mov x0, xzr
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L5:
	and x8, x2, #0x7fffffffffffffff
	subs x9, x8, x3
	ccmp x9, #0, #0, ne
	b.le L7
L6:
	bl _ZN7mapring8protocol4ring7consume6Cursor4passE
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L7:
	orr x9, x13, #0x1
	ldr w10, [x0, #200]
	cmp x8, x9
	ldr x9, [x0, #96]
	cset w11, ne
	add w8, w10, #1
	strb w11, [x0, #208]
	str w8, [x0, #200]
	cbz x9, L6
	and w8, w8, #0xf
	cbz w8, L6
	mov w0, #2
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L10:
	ldr x8, [x0, #144]
	add x8, x8, #1
	str x8, [x0, #144]
	mov w0, #1
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L11:
	mov w1, #1
	mov x0, x9
	mov x2, x8
	bl _ZN7mapring8protocol5words7outsideE
L12:
	mov w1, #8
	mov x0, x9
	mov x2, x8
	bl _ZN7mapring8protocol5words7outsideE

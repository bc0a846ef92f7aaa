// rustc rustc 1.95.0 (59807616e 2026-04-14)
	stp x29, x30, [sp, #-32]!
	str x19, [sp, #16]
	mov x29, sp
	ldr w10, [x1, #64]
	mov x8, #-1
	ldr x19, [x0, #24]
	ldr x9, [x1, #56]
	lsl x8, x8, x10
	bic x8, x19, x8
	mul x9, x9, x8
	ldr x8, [x1, #24]
	subs x12, x8, x9
	b.ls L15
	ldr x11, [x1, #16]
	lsr x10, x19, x10
	add x11, x11, x9, lsl #3
	lsl x13, x10, #1
	ldr x10, [x11]
	add x3, x13, #2
	cmp x10, x3
	b.ne L7
	cmp x12, #7
	b.ls L16
	dmb ishld
	ldr x9, [x11, #8]
	ldr x8, [x11, #16]
	stp x9, x8, [x2]
	ldr x9, [x11, #24]
	ldr x8, [x11, #32]
	stp x9, x8, [x2, #16]
	ldr x9, [x11, #40]
	ldr x8, [x11, #48]
	stp x9, x8, [x2, #32]
	ldr x8, [x11, #56]
	str x8, [x2, #48]
	dmb ishld
	ldr x8, [x11]
	cmp x8, x3
	b.ne L12
	add x9, x19, #1
	ldr x10, [x0, #24]
	subs x10, x9, x10
	b.eq L13
L5:
	ldr x11, [x0, #40]
	str x9, [x0, #24]
	cmp x8, x3
	str wzr, [x0, #80]
	add x9, x10, x11
	str x9, [x0, #40]
	b.ne L14
L6:
	mov x0, xzr
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L7:
	and x8, x10, #0x7fffffffffffffff
	subs x8, x8, x3
	ccmp x8, #0, #0, ne
	b.le L9
L8:
	mov x2, x10
	bl _ZN7mapring8protocol4ring7consume6Cursor4passE
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L9:
	ldr w8, [x0, #80]
	ldr x9, [x0, #32]
	add w8, w8, #1
	str w8, [x0, #80]
	cbz x9, L8
	and w8, w8, #0xf
	cbz w8, L8
	mov w0, #2
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L12:
	ldr x9, [x0, #72]
	add x9, x9, #1
	str x9, [x0, #72]
	mov x9, x19
	ldr x10, [x0, #24]
	subs x10, x19, x10
	b.ne L5
L13:
	cmp x8, x3
	b.eq L6
L14:
	mov w0, #1
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L15:
	mov w1, #1
	mov x0, x9
	mov x2, x8
	bl _ZN7mapring8protocol5words7outsideE
L16:
	mov w1, #8
	mov x0, x9
	mov x2, x8
	bl _ZN7mapring8protocol5words7outsideE

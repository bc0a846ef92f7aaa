// rustc rustc 1.95.0 (59807616e 2026-04-14)
	stp x29, x30, [sp, #-32]!
	str x19, [sp, #16]
	mov x29, sp
	ldr w12, [x1, #64]
	mov x9, #-1
	mov x8, x1
	ldr x1, [x0]
	ldr x10, [x8, #56]
	lsl x9, x9, x12
	bic x9, x1, x9
	mul x10, x10, x9
	ldr x9, [x8, #24]
	subs x13, x9, x10
	b.ls L17
	ldr x14, [x8, #16]
	lsr x15, x1, x12
	mov x11, x2
	add x12, x14, x10, lsl #3
	lsl x14, x15, #1
	ldr x2, [x12]
	add x3, x14, #2
	cmp x2, x3
	b.ne L7
	cmp x13, #8
	b.lo L18
	dmb ishld
	ldr x9, [x12, #8]
	ldr x8, [x12, #16]
	stp x9, x8, [x11]
	ldr x9, [x12, #24]
	ldr x8, [x12, #32]
	stp x9, x8, [x11, #16]
	ldr x9, [x12, #40]
	ldr x8, [x12, #48]
	stp x9, x8, [x11, #32]
	ldr x8, [x12, #56]
	str x8, [x11, #48]
	dmb ishld
	ldr x8, [x12]
	cmp x8, x3
	b.ne L12
	add x9, x1, #1
	ldr x10, [x0]
	subs x10, x9, x10
	b.eq L13
L5:
	ldr x11, [x0, #8]
	cmp x8, x3
	str wzr, [x0, #48]
	add x10, x10, x11
	stp x9, x10, [x0]
	b.ne L14
L6:
	mov x0, xzr
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L7:
	and x9, x2, #0x7fffffffffffffff
	subs x9, x9, x3
	ccmp x9, #0, #0, ne
	b.le L9
L8:
	mov x19, x1
	mov x1, x8
	bl _ZN7mapring8protocol4ring7consume6Cursor4passE
	mov x1, x19
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L9:
	ldp w9, w10, [x0, #48]
	adds w9, w9, #1
	csinv w9, w9, wzr, lo
	cmp w10, #15
	str w9, [x0, #48]
	b.ls L15
	tst w9, #0xf
	b.eq L8
	mov w0, #2
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L12:
	ldr x9, [x0, #40]
	add x9, x9, #1
	str x9, [x0, #40]
	mov x9, x1
	ldr x10, [x0]
	subs x10, x1, x10
	b.ne L5
L13:
	cmp x8, x3
	b.eq L6
L14:
	mov w0, #1
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L15:
	cmp w10, #1
	csinc w10, w10, wzr, hi
	udiv w11, w9, w10
	msub w9, w11, w10, w9
	cbz w9, L8
	mov w0, #2
	ldr x19, [sp, #16]
	ldp x29, x30, [sp], #32
	ret
L17:
	mov w1, #1
	mov x0, x10
	mov x2, x9
	bl _ZN7mapring8protocol5words7outsideE
L18:
	mov w1, #8
	mov x0, x10
	mov x2, x9
	bl _ZN7mapring8protocol5words7outsideE

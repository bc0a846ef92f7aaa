// rustc rustc 1.95.0 (59807616e 2026-04-14)
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	cbz x1, L4
	mov x8, x1
	ldr x1, [x0]
	mov w9, #8
	dmb ishld
	tst x1, #0x1
	csinc x9, x9, xzr, ne
	subs x10, x8, #7
	b.lo L5
	cmp x9, x10
	b.hi L5
	add x8, x0, x9, lsl #3
	ldr x10, [x8]
	ldr x9, [x8, #8]
	stp x10, x9, [x2]
	ldr x10, [x8, #16]
	ldr x9, [x8, #24]
	stp x10, x9, [x2, #16]
	ldr x10, [x8, #32]
	ldr x9, [x8, #40]
	stp x10, x9, [x2, #32]
	ldr x8, [x8, #48]
	str x8, [x2, #48]
	dmb ishld
	ldr x8, [x0]
	cmp x8, x1
	cset w0, eq
	ldp x29, x30, [sp], #16
	ret
L4:
	mov x0, xzr
	mov w1, #1
	mov x2, xzr
	bl _ZN7mapring8protocol5words7outsideE
L5:
	mov x0, x9
	mov w1, #7
	mov x2, x8
	bl _ZN7mapring8protocol5words7outsideE

// rustc rustc 1.95.0 (59807616e 2026-04-14)
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	cbz x1, L7
	mov x8, x1
	ldr x1, [x0]
	dmb ishld
	tbnz w1, #0, L4
	cmp x8, #7
	b.ls L8
	mov w8, #56
	mov w9, #48
	mov w10, #40
	mov w11, #32
	mov w12, #24
	mov w13, #16
	mov w14, #8
	b L6
L4:
	cmp x8, #14
	b.ls L9
	mov w8, #112
	mov w9, #104
	mov w10, #96
	mov w11, #88
	mov w12, #80
	mov w13, #72
	mov w14, #64
L6:
	ldr x14, [x0, x14]
	ldr x13, [x0, x13]
	stp x14, x13, [x2]
	ldr x12, [x0, x12]
	ldr x11, [x0, x11]
	stp x12, x11, [x2, #16]
	ldr x10, [x0, x10]
	ldr x9, [x0, x9]
	stp x10, x9, [x2, #32]
	ldr x8, [x0, x8]
	str x8, [x2, #48]
	dmb ishld
	ldr x8, [x0]
	cmp x8, x1
	cset w0, eq
	ldp x29, x30, [sp], #16
	ret
L7:
	mov x0, xzr
	mov w1, #1
	mov x2, xzr
	bl _ZN7mapring8protocol5words7outsideE
L8:
	mov w0, #1
	mov w1, #7
	mov x2, x8
	bl _ZN7mapring8protocol5words7outsideE
L9:
	mov w0, #8
	mov w1, #7
	mov x2, x8
	bl _ZN7mapring8protocol5words7outsideE

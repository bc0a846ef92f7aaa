// rustc rustc 1.95.0 (59807616e 2026-04-14)
	cmp x1, #7
	b.ls L4
	ldr x1, [x0]
	tbnz w1, #0, L3
	dmb ishld
	ldr x9, [x0, #8]
	ldr x8, [x0, #16]
	stp x9, x8, [x2]
	ldr x9, [x0, #24]
	ldr x8, [x0, #32]
	stp x9, x8, [x2, #16]
	ldr x9, [x0, #40]
	ldr x8, [x0, #48]
	stp x9, x8, [x2, #32]
	ldr x8, [x0, #56]
	str x8, [x2, #48]
	dmb ishld
	ldr x8, [x0]
	cmp x8, x1
	cset w0, eq
	ret
L3:
	mov x0, xzr
	ret
L4:
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	mov x0, xzr
	mov x2, x1
	mov w1, #8
	bl _ZN7mapring8protocol5words7outsideE

// rustc rustc 1.95.0 (59807616e 2026-04-14)
	cbz x3, L6
	cbz x1, L8
	mov x8, x0
	mov x0, xzr
	mov x9, xzr
	sub x10, x1, #1
L3:
	cmp x0, x10
	b.hi L7
	ldr x11, [x8, x0, lsl #3]
	subs x3, x3, #1
	add x0, x0, x2
	add x9, x11, x9
	b.ne L3
	mov x0, x9
	ret
L6:
	mov x0, xzr
	ret
L7:
	mov x2, x1
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	mov w1, #1
	bl _ZN7mapring8protocol5words7outsideE
L8:
	mov x2, x1
	mov x0, xzr
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	mov w1, #1
	bl _ZN7mapring8protocol5words7outsideE

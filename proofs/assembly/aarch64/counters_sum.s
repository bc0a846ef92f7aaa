// rustc rustc 1.95.0 (59807616e 2026-04-14)
	cbz x3, L5
	mov x8, xzr
	mov x9, xzr
L2:
	cmp x1, x8
	b.ls L6
	ldr x10, [x0, x8, lsl #3]
	subs x3, x3, #1
	add x8, x8, x2
	add x9, x10, x9
	b.ne L2
	mov x0, x9
	ret
L5:
	mov x0, xzr
	ret
L6:
	stp x29, x30, [sp, #-16]!
	mov x29, sp
	mov x0, x8
	mov x2, x1
	mov w1, #1
	bl _ZN7mapring8protocol5words7outsideE

// rustc rustc 1.95.0 (59807616e 2026-04-14)
	stp x29, x30, [sp, #-48]!
	stp x22, x21, [sp, #16]
	stp x20, x19, [sp, #32]
	mov x29, sp
	ldr x21, [x0, #24]
	mov x19, x0
	cbz x2, L8
	ldr w10, [x1, #64]
	mov x9, #-1
	ldr x13, [x1, #56]
	mov x20, xzr
	lsl x11, x9, x10
	ldp x14, x9, [x1, #16]
	and x15, x10, #0x3f
	mov w10, #1
	mvn x16, x11
L2:
	add x22, x21, x20
	and x11, x22, x16
	mul x0, x13, x11
	subs x18, x9, x0
	b.ls L20
	lsr x11, x22, x15
	add x17, x14, x0, lsl #3
	lsl x11, x11, #1
	ldr x12, [x17]
	add x11, x11, #2
	cmp x12, x11
	b.ne L10
	cmp x18, #8
	b.lo L19
	dmb ishld
	ldr x12, [x17, #8]
	ldr x0, [x17, #16]
	ldr x4, [x17, #24]
	ldr x6, [x17, #32]
	ldr x5, [x17, #40]
	ldr x7, [x17, #48]
	ldr x18, [x17, #56]
	dmb ishld
	ldr x17, [x17]
	cmp x17, x11
	b.ne L14
	add x11, x0, x12
	add x12, x4, x6
	add x17, x5, x7
	ldr x0, [x3]
	add x11, x11, x12
	add x12, x17, x18
	add x20, x20, #1
	add x11, x11, x12
	add x11, x11, x0
	cmp x2, x20
	str x11, [x3]
	b.ne L2
	add x21, x21, x20
L8:
	ldr x9, [x19, #24]
	mov w10, #1
	stp x2, x10, [x8]
	subs x9, x21, x9
	b.ne L15
L9:
	ldp x20, x19, [sp, #32]
	ldp x22, x21, [sp, #16]
	ldp x29, x30, [sp], #48
	ret
L10:
	ldr x10, [x19, #24]
	add x9, x21, x20
	cmp x9, x10
	b.eq L12
	ldr x13, [x19, #40]
	str x9, [x19, #24]
	str wzr, [x19, #80]
	sub x10, x13, x10
	add x9, x9, x10
	str x9, [x19, #40]
L12:
	and x9, x12, #0x7fffffffffffffff
	subs x9, x9, x11
	ccmp x9, #0, #0, ne
	b.le L16
L13:
	mov x0, x19
	mov x2, x12
	mov x3, x11
	mov x19, x8
	bl _ZN7mapring8protocol4ring7consume6Cursor4passE
	stp x20, x0, [x19]
	ldp x20, x19, [sp, #32]
	ldp x22, x21, [sp, #16]
	ldp x29, x30, [sp], #48
	ret
L14:
	ldr x9, [x19, #72]
	add x21, x21, x20
	add x9, x9, #1
	str x9, [x19, #72]
	ldr x9, [x19, #24]
	mov w10, #1
	stp x20, x10, [x8]
	subs x9, x21, x9
	b.eq L9
L15:
	ldr x8, [x19, #40]
	str x21, [x19, #24]
	str wzr, [x19, #80]
	add x8, x9, x8
	str x8, [x19, #40]
	ldp x20, x19, [sp, #32]
	ldp x22, x21, [sp, #16]
	ldp x29, x30, [sp], #48
	ret
L16:
	ldr w9, [x19, #80]
	ldr x10, [x19, #32]
	add w9, w9, #1
	str w9, [x19, #80]
	cbz x10, L13
	and w9, w9, #0xf
	cbz w9, L13
	mov w9, #2
	stp x20, x9, [x8]
	ldp x20, x19, [sp, #32]
	ldp x22, x21, [sp, #16]
	ldp x29, x30, [sp], #48
	ret
L19:
	mov w10, #8
L20:
	mov x1, x10
	mov x2, x9
	bl _ZN7mapring8protocol5words7outsideE
	brk #0x1
L22:
	ldr x8, [x19, #24]
	sub x9, x21, x8
	cmn x9, x20
	b.eq L24
	ldr x9, [x19, #40]
	add x10, x21, x20
	str x22, [x19, #24]
	str wzr, [x19, #80]
	sub x8, x9, x8
	add x8, x10, x8
	str x8, [x19, #40]
L24:
	bl _Unwind_Resume

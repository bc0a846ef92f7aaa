// rustc rustc 1.95.0 (59807616e 2026-04-14)
	sub sp, sp, #128
	stp x29, x30, [sp, #32]
	stp x28, x27, [sp, #48]
	stp x26, x25, [sp, #64]
	stp x24, x23, [sp, #80]
	stp x22, x21, [sp, #96]
	stp x20, x19, [sp, #112]
	add x29, sp, #32
	ldr x20, [x0, #88]
	mov x19, x0
	stur x8, [x29, #-8]
	cbz x2, L13
	ldr w9, [x1, #48]
	mov x10, #-1
	mov w12, #1
	ldr x15, [x1, #40]
	ldr x14, [x1, #24]
	mov x13, xzr
	lsl x11, x10, x9
	lsl x16, x12, x9
	and x17, x9, #0x3f
	ldp x12, x10, [x1]
	lsl x18, x15, #3
	mvn x8, x11
	sub x0, x16, #1
	mov x21, x20
	stp x14, x8, [sp, #8]
	add x12, x12, #32
	b L3
L2:
	cmp x13, x2
	b.eq L14
L3:
	sub x9, x2, x13
	mov x24, x2
	cmp x9, #1
	b.eq L5
	and x11, x21, x0
	sub x11, x16, x11
	cmp x9, x11
	csel x9, x9, x11, lo
	add x24, x9, x13
L5:
	subs x25, x13, x24
	b.hs L2
	and x9, x21, x8
	mov x22, xzr
	mov x8, x17
	madd x0, x15, x9, x14
	lsr x9, x21, x17
	mov x7, x12
	lsl x23, x9, #1
	add x9, x21, x24
	sub x27, x9, x13
	add x9, x10, x15
	add x11, x23, #2
	add x26, x12, x0, lsl #3
	sub x28, x9, x0
L7:
	cmp x10, x0
	b.ls L26
	ldur x12, [x26, #-32]
	cmp x12, x11
	b.ne L15
	sub x28, x28, x15
	cmp x28, #8
	b.lo L27
	dmb ishld
	ldur x12, [x26, #-24]
	ldur x5, [x26, #-16]
	ldur x6, [x26, #-8]
	ldr x14, [x26]
	ldr x9, [x26, #8]
	ldr x17, [x26, #16]
	ldr x30, [x26, #24]
	dmb ishld
	ldur x4, [x26, #-32]
	cmp x4, x11
	b.ne L22
	add x12, x5, x12
	add x14, x6, x14
	add x9, x9, x17
	ldr x17, [x3]
	add x12, x12, x14
	add x9, x9, x30
	add x22, x22, #1
	add x9, x12, x9
	add x26, x26, x18
	cmn x25, x22
	add x9, x9, x17
	add x0, x0, x15
	str x9, [x3]
	b.ne L7
	mov x17, x8
	ldp x14, x8, [sp, #8]
	mov x21, x27
	mov x13, x24
	sub x0, x16, #1
	mov x12, x7
	b L2
L13:
	mov x21, x20
L14:
	ldur x8, [x29, #-8]
	mov w10, #1
	subs x9, x21, x20
	stp x2, x10, [x8]
	b.ne L23
	b L25
L15:
	add x9, x21, x22
	cmp x9, x20
	b.eq L17
	ldr x10, [x19, #104]
	sub x14, x21, x20
	str x9, [x19, #88]
	add x14, x14, x22
	str wzr, [x19, #200]
	add x9, x10, x14
	str x9, [x19, #104]
L17:
	and x9, x12, #0x7fffffffffffffff
	add x20, x13, x22
	subs x10, x9, x11
	b.eq L24
	cmp x10, #0
	b.gt L24
	orr x10, x23, #0x1
	ldr w13, [x19, #200]
	cmp x9, x10
	ldr x10, [x19, #96]
	cset w14, ne
	add w9, w13, #1
	strb w14, [x19, #208]
	str w9, [x19, #200]
	cbz x10, L24
	and w9, w9, #0xf
	cbz w9, L24
	ldur x8, [x29, #-8]
	mov w9, #2
	stp x20, x9, [x8]
	b L25
L22:
	ldr x9, [x19, #144]
	add x2, x13, x22
	add x21, x21, x22
	add x9, x9, #1
	str x9, [x19, #144]
	ldur x8, [x29, #-8]
	mov w10, #1
	subs x9, x21, x20
	stp x2, x10, [x8]
	b.eq L25
L23:
	ldr x8, [x19, #104]
	str x21, [x19, #88]
	str wzr, [x19, #200]
	add x8, x9, x8
	str x8, [x19, #104]
	b L25
L24:
	mov x0, x19
	mov x2, x12
	mov x3, x11
	ldur x19, [x29, #-8]
	bl _ZN7mapring8protocol4ring7consume6Cursor4passE
	stp x20, x0, [x19]
L25:
	ldp x20, x19, [sp, #112]
	ldp x22, x21, [sp, #96]
	ldp x24, x23, [sp, #80]
	ldp x26, x25, [sp, #64]
	ldp x28, x27, [sp, #48]
	ldp x29, x30, [sp, #32]
	add sp, sp, #128
	ret
L26:
	mov w1, #1
	b L28
L27:
	mov w1, #8
L28:
	add x23, x21, x22
	sub x24, x23, x20
	mov x2, x10
	bl _ZN7mapring8protocol5words7outsideE
	brk #0x1
L30:
	cbz x24, L32
	ldr x8, [x19, #104]
	sub x9, x21, x20
	str x23, [x19, #88]
	add x9, x9, x22
	str wzr, [x19, #200]
	add x8, x8, x9
	str x8, [x19, #104]
L32:
	bl _Unwind_Resume

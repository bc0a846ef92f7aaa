# rustc rustc 1.95.0 (59807616e 2026-04-14)
	testq %rcx, %rcx
	je L1
	movq %rsi, %r9
	subq $1, %r9
	jb L3
	movq %rdi, %r8
	xorl %edi, %edi
	xorl %eax, %eax
L5:
	cmpq %r9, %rdi
	ja L6
	movq (%r8,%rdi,8), %r10
	addq %r10, %rax
	addq %rdx, %rdi
	decq %rcx
	jne L5
	retq
L1:
	xorl %eax, %eax
	retq
L6:
	movq %rsi, %rdx
	pushq %rax
	movl $1, %esi
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)
L3:
	movq %rsi, %rdx
	xorl %edi, %edi
	pushq %rax
	movl $1, %esi
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)

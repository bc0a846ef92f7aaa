# rustc rustc 1.95.0 (59807616e 2026-04-14)
	testq %rcx, %rcx
	je L1
	movq %rdi, %r8
	xorl %edi, %edi
	xorl %eax, %eax
L3:
	cmpq %rdi, %rsi
	jbe L6
	movq (%r8,%rdi,8), %r9
	addq %r9, %rax
	addq %rdx, %rdi
	decq %rcx
	jne L3
	retq
L1:
	xorl %eax, %eax
	retq
L6:
	pushq %rax
	movq %rsi, %rdx
	movl $1, %esi
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)

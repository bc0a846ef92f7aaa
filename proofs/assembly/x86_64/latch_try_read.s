# rustc rustc 1.95.0 (59807616e 2026-04-14)
	pushq %rax
	testq %rsi, %rsi
	je L4
	movq %rdx, %rax
	movq (%rdi), %rdx
	#MEMBARRIER
	testb $1, %dl
	movl $1, %r8d
	movl $8, %ecx
	cmoveq %r8, %rcx
	movq %rsi, %r8
	subq $7, %r8
	jb L5
	cmpq %r8, %rcx
	ja L5
	movq (%rdi,%rcx,8), %rsi
	movq %rsi, (%rax)
	movq 8(%rdi,%rcx,8), %rsi
	movq %rsi, 8(%rax)
	movq 16(%rdi,%rcx,8), %rsi
	movq %rsi, 16(%rax)
	movq 24(%rdi,%rcx,8), %rsi
	movq %rsi, 24(%rax)
	movq 32(%rdi,%rcx,8), %rsi
	movq %rsi, 32(%rax)
	movq 40(%rdi,%rcx,8), %rsi
	movq %rsi, 40(%rax)
	movq 48(%rdi,%rcx,8), %rcx
	movq %rcx, 48(%rax)
	#MEMBARRIER
	movq (%rdi), %rcx
	xorl %eax, %eax
	cmpq %rdx, %rcx
	sete %al
	popq %rcx
	retq
L4:
	movl $1, %esi
	xorl %edi, %edi
	xorl %edx, %edx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)
L5:
	movq %rsi, %rdx
	movl $7, %esi
	movq %rcx, %rdi
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)

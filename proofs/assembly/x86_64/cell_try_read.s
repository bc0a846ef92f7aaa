# rustc rustc 1.95.0 (59807616e 2026-04-14)
	cmpq $7, %rsi
	jbe L5
	movq %rdx, %rax
	movq (%rdi), %rdx
	testb $1, %dl
	jne L2
	#MEMBARRIER
	leaq 8(%rdi), %rcx
	#APP
	movups (%rcx), %xmm0
	#NO_APP
	movups %xmm0, (%rax)
	leaq 24(%rdi), %rcx
	#APP
	movups (%rcx), %xmm0
	#NO_APP
	movups %xmm0, 16(%rax)
	leaq 40(%rdi), %rcx
	#APP
	movups (%rcx), %xmm0
	#NO_APP
	movups %xmm0, 32(%rax)
	movq 56(%rdi), %rcx
	movq %rcx, 48(%rax)
	#MEMBARRIER
	movq (%rdi), %rcx
	xorl %eax, %eax
	cmpq %rdx, %rcx
	sete %al
	retq
L2:
	xorl %eax, %eax
	retq
L5:
	pushq %rax
	movq %rsi, %rdx
	movl $8, %esi
	xorl %edi, %edi
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)

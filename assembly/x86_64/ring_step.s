# rustc rustc 1.95.0 (59807616e 2026-04-14)
	pushq %rbx
	movq %rdx, %r8
	movzbl 64(%rsi), %ecx
	movq (%rdi), %rbx
	movq $-1, %rax
	shlq %cl, %rax
	notq %rax
	movq 24(%rsi), %r9
	movq %rbx, %rdx
	shrq %cl, %rdx
	andq %rbx, %rax
	imulq 56(%rsi), %rax
	movq %r9, %r11
	subq %rax, %r11
	jbe L1
	movq 16(%rsi), %r10
	leaq 2(,%rdx,2), %rcx
	movq (%r10,%rax,8), %rdx
	cmpq %rcx, %rdx
	jne L8
	cmpq $8, %r11
	jb L5
	#MEMBARRIER
	movq 8(%r10,%rax,8), %rdx
	movq %rdx, (%r8)
	movq 16(%r10,%rax,8), %rdx
	movq %rdx, 8(%r8)
	movq 24(%r10,%rax,8), %rdx
	movq %rdx, 16(%r8)
	movq 32(%r10,%rax,8), %rdx
	movq %rdx, 24(%r8)
	movq 40(%r10,%rax,8), %rdx
	movq %rdx, 32(%r8)
	movq 48(%r10,%rax,8), %rdx
	movq %rdx, 40(%r8)
	movq 56(%r10,%rax,8), %rdx
	movq %rdx, 48(%r8)
	#MEMBARRIER
	movq (%r10,%rax,8), %rdx
	cmpq %rcx, %rdx
	jne L7
	leaq 1(%rbx), %rax
	movq %rax, %rsi
	subq (%rdi), %rsi
	jne L16
	jmp L17
L8:
	movabsq $9223372036854775807, %rax
	andq %rdx, %rax
	subq %rcx, %rax
	je L13
	testq %rax, %rax
	jg L13
	movl 48(%rdi), %eax
	movl 52(%rdi), %r9d
	incl %eax
	movl $-1, %r8d
	cmovnel %eax, %r8d
	movl %r8d, 48(%rdi)
	cmpl $15, %r9d
	jbe L11
	movl $2, %eax
	testb $15, %r8b
	je L13
L19:
	movq %rbx, %rdx
	popq %rbx
	retq
L7:
	incq 40(%rdi)
	movq %rbx, %rax
	movq %rax, %rsi
	subq (%rdi), %rsi
	je L17
L16:
	addq %rsi, 8(%rdi)
	movq %rax, (%rdi)
	movl $0, 48(%rdi)
L17:
	movl $1, %eax
	cmpq %rcx, %rdx
	jne L19
	xorl %eax, %eax
	movq %rbx, %rdx
	popq %rbx
	retq
L11:
	cmpl $1, %r9d
	adcl $0, %r9d
	movl %r8d, %eax
	movq %rdx, %r10
	xorl %edx, %edx
	divl %r9d
	movl %edx, %r8d
	movq %r10, %rdx
	movl $2, %eax
	testl %r8d, %r8d
	jne L19
L13:
	callq _ZN7mapring8protocol4ring7consume6Cursor4passE
	movq %rbx, %rdx
	popq %rbx
	retq
L1:
	movl $1, %esi
	movq %rax, %rdi
	movq %r9, %rdx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)
L5:
	movl $8, %esi
	movq %rax, %rdi
	movq %r9, %rdx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)

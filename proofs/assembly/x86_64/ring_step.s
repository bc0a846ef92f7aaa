# rustc rustc 1.95.0 (59807616e 2026-04-14)
	pushq %rbx
	movzbl 48(%rsi), %ecx
	movq $-1, %rax
	shlq %cl, %rax
	movq 24(%rdi), %rbx
	notq %rax
	movq %rbx, %r8
	shrq %cl, %r8
	movq 8(%rsi), %r9
	andq %rbx, %rax
	imulq 40(%rsi), %rax
	addq 24(%rsi), %rax
	movq %r9, %r11
	subq %rax, %r11
	jbe L1
	movq (%rsi), %r10
	leaq 2(,%r8,2), %rcx
	movq (%r10,%rax,8), %r8
	cmpq %rcx, %r8
	jne L8
	cmpq $7, %r11
	jbe L4
	#MEMBARRIER
	movq 8(%r10,%rax,8), %rsi
	movq %rsi, (%rdx)
	movq 16(%r10,%rax,8), %rsi
	movq %rsi, 8(%rdx)
	movq 24(%r10,%rax,8), %rsi
	movq %rsi, 16(%rdx)
	movq 32(%r10,%rax,8), %rsi
	movq %rsi, 24(%rdx)
	movq 40(%r10,%rax,8), %rsi
	movq %rsi, 32(%rdx)
	movq 48(%r10,%rax,8), %rsi
	movq %rsi, 40(%rdx)
	movq 56(%r10,%rax,8), %rsi
	movq %rsi, 48(%rdx)
	#MEMBARRIER
	movq (%r10,%rax,8), %rax
	cmpq %rcx, %rax
	jne L7
	incq 40(%rdi)
	leaq 1(%rbx), %rax
	movq %rax, 24(%rdi)
	movl $0, 120(%rdi)
	xorl %eax, %eax
L14:
	movq %rbx, %rdx
	popq %rbx
	retq
L8:
	movabsq $9223372036854775807, %rax
	andq %r8, %rax
	subq %rcx, %rax
	je L12
	testq %rax, %rax
	jg L12
	movl 120(%rdi), %edx
	incl %edx
	movl %edx, 120(%rdi)
	cmpq $0, 32(%rdi)
	je L12
	movl $2, %eax
	andl $15, %edx
	jne L14
L12:
	movq %r8, %rdx
	callq _ZN7mapring8protocol4ring7consume6Cursor4passE
	movq %rbx, %rdx
	popq %rbx
	retq
L7:
	incq 72(%rdi)
	movl $1, %eax
	movq %rbx, %rdx
	popq %rbx
	retq
L1:
	movl $1, %esi
	movq %rax, %rdi
	movq %r9, %rdx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)
L4:
	movl $8, %esi
	movq %rax, %rdi
	movq %r9, %rdx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)

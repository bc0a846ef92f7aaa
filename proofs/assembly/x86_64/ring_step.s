# rustc rustc 1.95.0 (59807616e 2026-04-14)
	pushq %r14
	pushq %rbx
	pushq %rax
	movzbl 48(%rsi), %ecx
	movq $-1, %rax
	shlq %cl, %rax
	movq 88(%rdi), %rbx
	notq %rax
	movq %rbx, %r10
	shrq %cl, %r10
	movq 8(%rsi), %r9
	andq %rbx, %rax
	imulq 40(%rsi), %rax
	addq 24(%rsi), %rax
	movq %r9, %r14
	subq %rax, %r14
	jbe L1
	leaq 2(,%r10,2), %rcx
	movq (%rsi), %r11
	movq (%r11,%rax,8), %r8
	cmpq %rcx, %r8
	jne L8
	cmpq $7, %r14
	jbe L4
	#MEMBARRIER
	movq 8(%r11,%rax,8), %rsi
	movq %rsi, (%rdx)
	movq 16(%r11,%rax,8), %rsi
	movq %rsi, 8(%rdx)
	movq 24(%r11,%rax,8), %rsi
	movq %rsi, 16(%rdx)
	movq 32(%r11,%rax,8), %rsi
	movq %rsi, 24(%rdx)
	movq 40(%r11,%rax,8), %rsi
	movq %rsi, 32(%rdx)
	movq 48(%r11,%rax,8), %rsi
	movq %rsi, 40(%rdx)
	movq 56(%r11,%rax,8), %rsi
	movq %rsi, 48(%rdx)
	#MEMBARRIER
	movq (%r11,%rax,8), %rax
	cmpq %rcx, %rax
	jne L7
	incq 104(%rdi)
	leaq 1(%rbx), %rax
	movq %rax, 88(%rdi)
	movl $0, 200(%rdi)
	xorl %eax, %eax
	jmp L14
L8:
	movabsq $9223372036854775807, %rax
	andq %r8, %rax
	movq %rax, %rdx
	subq %rcx, %rdx
	je L12
	testq %rdx, %rdx
	jg L12
	addq %r10, %r10
	orq $1, %r10
	cmpq %r10, %rax
	setne 208(%rdi)
	movl 200(%rdi), %edx
	incl %edx
	movl %edx, 200(%rdi)
	cmpq $0, 96(%rdi)
	je L12
	movl $2, %eax
	andl $15, %edx
	jne L14
L12:
	movq %r8, %rdx
	callq _ZN7mapring8protocol4ring7consume6Cursor4passE
	jmp L14
L7:
	incq 144(%rdi)
	movl $1, %eax
L14:
	movq %rbx, %rdx
	addq $8, %rsp
	popq %rbx
	popq %r14
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

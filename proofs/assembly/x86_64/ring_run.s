# rustc rustc 1.95.0 (59807616e 2026-04-14)
	pushq %rbp
	pushq %r15
	pushq %r14
	pushq %r13
	pushq %r12
	pushq %rbx
	subq $72, %rsp
	movq %r8, 56(%rsp)
	movq %rdi, 16(%rsp)
	movq 88(%rsi), %rdi
	movq %rcx, 24(%rsp)
	testq %rcx, %rcx
	je L1
	movq %rsi, 8(%rsp)
	movl 48(%rdx), %ecx
	andl $63, %ecx
	movq $-1, %r13
	shlq %cl, %r13
	movq 24(%rdx), %rax
	movq %rax, 64(%rsp)
	notq %r13
	movq 40(%rdx), %rbx
	movq (%rdx), %rsi
	movq %rdx, 48(%rsp)
	movq 8(%rdx), %rax
	movq %rax, 40(%rsp)
	xorl %r15d, %r15d
	movq %rdi, 32(%rsp)
	movq %rdi, %rbp
L3:
	movq %rbp, %r12
	shrq %cl, %r12
	movq %rbp, %r14
	andq %r13, %r14
	imulq %rbx, %r14
	addq 64(%rsp), %r14
	movq 40(%rsp), %rax
	subq %r14, %rax
	jbe L4
	leaq 2(,%r12,2), %r10
	movq (%rsi,%r14,8), %r11
	cmpq %r10, %r11
	jne L10
	cmpq $8, %rax
	jb L9
	#MEMBARRIER
	movq 8(%rsi,%r14,8), %rdi
	movq 16(%rsi,%r14,8), %rax
	movq 24(%rsi,%r14,8), %r11
	movq 32(%rsi,%r14,8), %rdx
	movq 40(%rsi,%r14,8), %r12
	movq 48(%rsi,%r14,8), %r9
	movq 56(%rsi,%r14,8), %r8
	#MEMBARRIER
	movq (%rsi,%r14,8), %r14
	cmpq %r10, %r14
	jne L18
	addq %rdi, %rax
	addq %rdx, %r11
	addq %rax, %r11
	addq %r9, %r12
	addq %r8, %r12
	addq %r11, %r12
	movq 56(%rsp), %rax
	addq %r12, (%rax)
	incq %rbp
	decq %r15
	movq 24(%rsp), %rax
	addq %r15, %rax
	jne L3
	movq 8(%rsp), %rsi
	jmp L19
L1:
	movq %rdi, %rbp
	jmp L20
L10:
	testq %r15, %r15
	movq 8(%rsp), %rdi
	je L12
	subq %r15, 104(%rdi)
	movq %rbp, 88(%rdi)
	movl $0, 200(%rdi)
L12:
	negq %r15
	movabsq $9223372036854775807, %rax
	andq %r11, %rax
	movq %rax, %rcx
	subq %r10, %rcx
	je L16
	testq %rcx, %rcx
	jg L16
	addq %r12, %r12
	orq $1, %r12
	cmpq %r12, %rax
	setne 208(%rdi)
	movl 200(%rdi), %eax
	incl %eax
	movl %eax, 200(%rdi)
	cmpq $0, 96(%rdi)
	je L16
	andl $15, %eax
	je L16
	movq 16(%rsp), %rax
	movq %r15, (%rax)
	movq $2, 8(%rax)
	jmp L25
L18:
	movq 8(%rsp), %rsi
	incq 144(%rsi)
	negq %r15
	movq %r15, 24(%rsp)
L19:
	movq 32(%rsp), %rdi
L20:
	movq 16(%rsp), %rax
	movq 24(%rsp), %rcx
	movq %rcx, (%rax)
	movq $1, 8(%rax)
	movq %rbp, %rax
	subq %rdi, %rax
	je L25
	addq %rax, 104(%rsi)
	movq %rbp, 88(%rsi)
	movl $0, 200(%rsi)
	jmp L25
L16:
	movq 48(%rsp), %rsi
	movq %r11, %rdx
	movq %r10, %rcx
	callq _ZN7mapring8protocol4ring7consume6Cursor4passE
	movq 16(%rsp), %rcx
	movq %r15, (%rcx)
	movq %rax, 8(%rcx)
L25:
	movq 16(%rsp), %rax
	addq $72, %rsp
	popq %rbx
	popq %r12
	popq %r13
	popq %r14
	popq %r15
	popq %rbp
	retq
L4:
	movl $1, %esi
	jmp L5
L9:
	movl $8, %esi
L5:
	movq %r14, %rdi
	movq 40(%rsp), %rdx
	movq 8(%rsp), %rbx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)
	ud2
L26:
	testq %r15, %r15
	je L28
	subq %r15, 104(%rbx)
	movq %rbp, 88(%rbx)
	movl $0, 200(%rbx)
L28:
	movq %rax, %rdi
	callq _Unwind_Resume@PLT

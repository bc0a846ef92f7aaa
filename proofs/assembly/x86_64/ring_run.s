# rustc rustc 1.95.0 (59807616e 2026-04-14)
	pushq %rbp
	pushq %r15
	pushq %r14
	pushq %r13
	pushq %r12
	pushq %rbx
	subq $56, %rsp
	movq %r8, 32(%rsp)
	movq %rcx, %r8
	movq %rdi, 8(%rsp)
	movq 24(%rsi), %r12
	testq %rcx, %rcx
	je L1
	movq %rsi, (%rsp)
	movl 64(%rdx), %ecx
	andl $63, %ecx
	movq $-1, %rax
	shlq %cl, %rax
	notq %rax
	movq %rax, 48(%rsp)
	movq 56(%rdx), %rax
	movq %rax, 40(%rsp)
	movq 16(%rdx), %rbx
	movq %rdx, 24(%rsp)
	movq 24(%rdx), %rax
	movq %rax, 16(%rsp)
	xorl %r15d, %r15d
L3:
	leaq (%r12,%r15), %r13
	movq %r13, %rax
	shrq %cl, %rax
	movq %r13, %r14
	andq 48(%rsp), %r14
	imulq 40(%rsp), %r14
	movq 16(%rsp), %rdi
	subq %r14, %rdi
	jbe L4
	leaq 2(,%rax,2), %r10
	movq (%rbx,%r14,8), %r11
	cmpq %r10, %r11
	jne L10
	cmpq $8, %rdi
	jb L9
	movq %r8, %rsi
	movq %r12, %rdx
	#MEMBARRIER
	movq 8(%rbx,%r14,8), %rbp
	movq 16(%rbx,%r14,8), %r9
	movq 24(%rbx,%r14,8), %r11
	movq 32(%rbx,%r14,8), %rdi
	movq 40(%rbx,%r14,8), %r12
	movq 48(%rbx,%r14,8), %r8
	movq 56(%rbx,%r14,8), %rax
	#MEMBARRIER
	movq (%rbx,%r14,8), %r14
	cmpq %r10, %r14
	jne L18
	incq %r15
	addq %rbp, %r9
	addq %rdi, %r11
	addq %r9, %r11
	addq %r8, %r12
	addq %rax, %r12
	addq %r11, %r12
	movq 32(%rsp), %rax
	addq %r12, (%rax)
	movq %rsi, %r8
	cmpq %r15, %rsi
	movq %rdx, %r12
	jne L3
	addq %r15, %r12
	movq %r8, %r15
	movq %r12, %r13
	movq (%rsp), %rsi
	jmp L25
L1:
	movq %r8, %r15
	movq %r12, %r13
	jmp L25
L10:
	movq (%rsp), %rdi
	movq 24(%rdi), %rax
	cmpq %rax, %r13
	je L12
	movq 40(%rdi), %rcx
	subq %rax, %rcx
	addq %r13, %rcx
	movq %rcx, 40(%rdi)
	movq %r13, 24(%rdi)
	movl $0, 80(%rdi)
L12:
	movabsq $9223372036854775807, %rax
	andq %r11, %rax
	subq %r10, %rax
	je L16
	testq %rax, %rax
	jg L16
	movl 80(%rdi), %eax
	incl %eax
	movl %eax, 80(%rdi)
	cmpq $0, 32(%rdi)
	je L16
	andl $15, %eax
	je L16
	movq 8(%rsp), %rax
	movq %r15, (%rax)
	movq $2, 8(%rax)
	jmp L27
L18:
	movq (%rsp), %rsi
	incq 72(%rsi)
L25:
	movq 8(%rsp), %rax
	movq %r15, (%rax)
	movq $1, 8(%rax)
	movq %r13, %rax
	subq 24(%rsi), %rax
	je L27
	addq %rax, 40(%rsi)
	movq %r13, 24(%rsi)
	movl $0, 80(%rsi)
	jmp L27
L16:
	movq 24(%rsp), %rsi
	movq %r11, %rdx
	movq %r10, %rcx
	callq _ZN7mapring8protocol4ring7consume6Cursor4passE
	movq 8(%rsp), %rcx
	movq %r15, (%rcx)
	movq %rax, 8(%rcx)
L27:
	movq 8(%rsp), %rax
	addq $56, %rsp
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
	movq 16(%rsp), %rdx
	movq (%rsp), %rbx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)
	ud2
L20:
	movq 24(%rbx), %rcx
	subq %rcx, %r12
	addq %r15, %r12
	je L22
	movq 40(%rbx), %rdx
	subq %rcx, %rdx
	addq %r13, %rdx
	movq %rdx, 40(%rbx)
	movq %r13, 24(%rbx)
	movl $0, 80(%rbx)
L22:
	movq %rax, %rdi
	callq _Unwind_Resume@PLT

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
	movq %rdx, 16(%rsp)
	movq %rdi, 8(%rsp)
	movq (%rsi), %r15
	testq %rcx, %rcx
	je L1
	movq %rsi, (%rsp)
	movq 16(%rsp), %rax
	movl 64(%rax), %ecx
	andl $63, %ecx
	movq $-1, %r13
	movq %rcx, 48(%rsp)
	shlq %cl, %r13
	notq %r13
	movq 56(%rax), %rcx
	movq %rcx, 40(%rsp)
	movq 16(%rax), %rbx
	movq 24(%rax), %rax
	movq %rax, 24(%rsp)
	xorl %r14d, %r14d
L3:
	leaq (%r15,%r14), %r12
	movq %r12, %rax
	movq 48(%rsp), %rcx
	shrq %cl, %rax
	movq %r12, %r11
	andq %r13, %r11
	imulq 40(%rsp), %r11
	movq 24(%rsp), %rdi
	subq %r11, %rdi
	jbe L4
	leaq 2(,%rax,2), %rcx
	movq (%rbx,%r11,8), %r10
	cmpq %rcx, %r10
	jne L10
	cmpq $7, %rdi
	jbe L7
	movq %r8, %rsi
	movq %r15, %rdx
	#MEMBARRIER
	movq 8(%rbx,%r11,8), %rbp
	movq 16(%rbx,%r11,8), %r9
	movq 24(%rbx,%r11,8), %r10
	movq 32(%rbx,%r11,8), %rdi
	movq 40(%rbx,%r11,8), %r15
	movq 48(%rbx,%r11,8), %r8
	movq 56(%rbx,%r11,8), %rax
	#MEMBARRIER
	movq (%rbx,%r11,8), %r11
	cmpq %rcx, %r11
	jne L18
	incq %r14
	addq %rbp, %r9
	addq %rdi, %r10
	addq %r9, %r10
	addq %r8, %r15
	addq %rax, %r15
	addq %r10, %r15
	movq 32(%rsp), %rax
	addq %r15, (%rax)
	movq %rsi, %r8
	cmpq %r14, %rsi
	movq %rdx, %r15
	jne L3
	addq %r14, %r15
	movq %r8, %r14
	movq %r15, %r12
	movq (%rsp), %rsi
	jmp L26
L1:
	movq %r8, %r14
	movq %r15, %r12
	jmp L26
L10:
	movq (%rsp), %rdi
	movq (%rdi), %rax
	cmpq %rax, %r12
	je L12
	movq 8(%rdi), %rdx
	subq %rax, %rdx
	addq %r12, %rdx
	movq %rdx, 8(%rdi)
	movq %r12, (%rdi)
	movl $0, 48(%rdi)
L12:
	movabsq $9223372036854775807, %rax
	andq %r10, %rax
	subq %rcx, %rax
	je L20
	testq %rax, %rax
	jg L20
	movl 48(%rdi), %edx
	movl 52(%rdi), %esi
	incl %edx
	movl $-1, %eax
	cmovnel %edx, %eax
	movl %eax, 48(%rdi)
	cmpl $15, %esi
	jbe L15
	testb $15, %al
	je L20
L16:
	movq 8(%rsp), %rax
	movq %r14, (%rax)
	movq $2, 8(%rax)
	jmp L28
L18:
	movq (%rsp), %rsi
	incq 40(%rsi)
L26:
	movq 8(%rsp), %rax
	movq %r14, (%rax)
	movq $1, 8(%rax)
	movq %r12, %rax
	subq (%rsi), %rax
	je L28
	addq %rax, 8(%rsi)
	movq %r12, (%rsi)
	movl $0, 48(%rsi)
	jmp L28
L15:
	cmpl $1, %esi
	adcl $0, %esi
	xorl %edx, %edx
	divl %esi
	testl %edx, %edx
	jne L16
L20:
	movq 16(%rsp), %rsi
	movq %r10, %rdx
	callq _ZN7mapring8protocol4ring7consume6Cursor4passE
	movq 8(%rsp), %rcx
	movq %r14, (%rcx)
	movq %rax, 8(%rcx)
L28:
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
	jmp L8
L7:
	movl $8, %esi
L8:
	movq %r11, %rdi
	movq 24(%rsp), %rdx
	movq (%rsp), %rbx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)
	ud2
L21:
	movq (%rbx), %rcx
	subq %rcx, %r15
	addq %r14, %r15
	je L23
	movq 8(%rbx), %rdx
	subq %rcx, %rdx
	addq %r12, %rdx
	movq %rdx, 8(%rbx)
	movq %r12, (%rbx)
	movl $0, 48(%rbx)
L23:
	movq %rax, %rdi
	callq _Unwind_Resume@PLT

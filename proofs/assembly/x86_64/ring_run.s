# rustc rustc 1.95.0 (59807616e 2026-04-14)
	pushq %rbp
	pushq %r15
	pushq %r14
	pushq %r13
	pushq %r12
	pushq %rbx
	subq $152, %rsp
	movq %r8, 144(%rsp)
	movq %rcx, %r10
	movq %rdi, 32(%rsp)
	movq 88(%rsi), %r8
	testq %rcx, %rcx
	je L1
	movq %rsi, 8(%rsp)
	movl 48(%rdx), %ecx
	andl $63, %ecx
	movq 24(%rdx), %rbx
	movq $-1, %r14
	shlq %cl, %r14
	movl $1, %r15d
	shlq %cl, %r15
	notq %r14
	movq 40(%rdx), %r13
	leaq -1(%r15), %rax
	movq %rax, 136(%rsp)
	movq (%rdx), %rdi
	movq 8(%rdx), %rax
	movq %rax, 48(%rsp)
	addq %r13, %rax
	movq %rax, 128(%rsp)
	xorl %esi, %esi
	movq %r8, %r9
	movq %r8, 16(%rsp)
	movq %rdx, 56(%rsp)
	movq %r10, 96(%rsp)
	movq %rcx, 88(%rsp)
	movq %rbx, 80(%rsp)
	movq %r14, 72(%rsp)
	movq %r15, 64(%rsp)
	jmp L5
L2:
	cmpq %r10, %rsi
	je L3
L5:
	movq %r9, %rbp
	shrq %cl, %rbp
	movq %r10, %r11
	subq %rsi, %r11
	movq %r10, %r12
	cmpq $1, %r11
	je L6
	movq %r9, %rax
	andq 136(%rsp), %rax
	movq %r15, %r12
	subq %rax, %r12
	cmpq %r12, %r11
	cmovbq %r11, %r12
	addq %rsi, %r12
L6:
	movq %r12, %rax
	movq %rsi, %r12
	subq %rax, %r12
	jae L2
	leaq 2(,%rbp,2), %r10
	addq %rbp, %rbp
	movq %rbp, 104(%rsp)
	movq %r9, %r11
	andq %r14, %r11
	imulq %r13, %r11
	addq %rbx, %r11
	movq %r9, 24(%rsp)
	movq %rax, 120(%rsp)
	addq %r9, %rax
	movq %rsi, 40(%rsp)
	subq %rsi, %rax
	movq %rax, 112(%rsp)
	movq 128(%rsp), %rsi
	subq %r11, %rsi
	xorl %ebp, %ebp
L8:
	cmpq %r11, 48(%rsp)
	jbe L9
	movq (%rdi,%r11,8), %rbx
	cmpq %r10, %rbx
	jne L15
	subq %r13, %rsi
	cmpq $8, %rsi
	jb L14
	#MEMBARRIER
	movq 8(%rdi,%r11,8), %r9
	movq 16(%rdi,%r11,8), %rcx
	movq 24(%rdi,%r11,8), %rbx
	movq 32(%rdi,%r11,8), %r8
	movq 40(%rdi,%r11,8), %rdx
	movq 48(%rdi,%r11,8), %r15
	movq 56(%rdi,%r11,8), %r14
	#MEMBARRIER
	movq (%rdi,%r11,8), %rax
	cmpq %r10, %rax
	jne L23
	addq %r9, %rcx
	addq %r8, %rbx
	addq %rcx, %rbx
	addq %r15, %rdx
	addq %r14, %rdx
	addq %rbx, %rdx
	movq 144(%rsp), %rax
	addq %rdx, (%rax)
	incq %rbp
	addq %r13, %r11
	movq %r12, %rax
	addq %rbp, %rax
	jne L8
	movq 112(%rsp), %r9
	movq 120(%rsp), %rsi
	movq 16(%rsp), %r8
	movq 96(%rsp), %r10
	movq 88(%rsp), %rcx
	movq 80(%rsp), %rbx
	movq 72(%rsp), %r14
	movq 64(%rsp), %r15
	jmp L2
L1:
	movq %r8, %r9
	jmp L24
L15:
	movq 24(%rsp), %rdx
	leaq (%rdx,%rbp), %rax
	movq 16(%rsp), %rcx
	cmpq %rcx, %rax
	movq 8(%rsp), %rdi
	je L17
	subq %rcx, %rdx
	addq 104(%rdi), %rdx
	addq %rbp, %rdx
	movq %rdx, 104(%rdi)
	movq %rax, 88(%rdi)
	movl $0, 200(%rdi)
L17:
	movq 40(%rsp), %r14
	addq %rbp, %r14
	movabsq $9223372036854775807, %rax
	andq %rbx, %rax
	movq %rax, %rcx
	subq %r10, %rcx
	je L21
	testq %rcx, %rcx
	jg L21
	movq 104(%rsp), %rcx
	orq $1, %rcx
	cmpq %rcx, %rax
	setne 208(%rdi)
	movl 200(%rdi), %eax
	incl %eax
	movl %eax, 200(%rdi)
	cmpq $0, 96(%rdi)
	je L21
	andl $15, %eax
	je L21
	movq 32(%rsp), %rax
	movq %r14, (%rax)
	movq $2, 8(%rax)
	jmp L29
L23:
	movq 8(%rsp), %rsi
	incq 144(%rsi)
	movq 40(%rsp), %r10
	addq %rbp, %r10
	movq 24(%rsp), %r9
	addq %rbp, %r9
	movq 16(%rsp), %r8
L24:
	movq 32(%rsp), %rax
	movq %r10, (%rax)
	movq $1, 8(%rax)
	movq %r9, %rax
	subq %r8, %rax
	je L29
	addq %rax, 104(%rsi)
	movq %r9, 88(%rsi)
	movl $0, 200(%rsi)
	jmp L29
L21:
	movq 56(%rsp), %rsi
	movq %rbx, %rdx
	movq %r10, %rcx
	callq _ZN7mapring8protocol4ring7consume6Cursor4passE
	movq 32(%rsp), %rcx
	movq %r14, (%rcx)
	movq %rax, 8(%rcx)
L29:
	movq 32(%rsp), %rax
	addq $152, %rsp
	popq %rbx
	popq %r12
	popq %r13
	popq %r14
	popq %r15
	popq %rbp
	retq
L3:
	movq 8(%rsp), %rsi
	jmp L24
L9:
	movq 8(%rsp), %rbx
	movl $1, %esi
	jmp L10
L14:
	movq 8(%rsp), %rbx
	movl $8, %esi
L10:
	movq 24(%rsp), %rax
	leaq (%rax,%rbp), %r14
	movq %r14, %r15
	subq 16(%rsp), %r15
	movq %r11, %rdi
	movq 48(%rsp), %rdx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)
	ud2
L30:
	testq %r15, %r15
	je L32
	movq 24(%rsp), %rcx
	subq 16(%rsp), %rcx
	addq 104(%rbx), %rcx
	addq %rbp, %rcx
	movq %rcx, 104(%rbx)
	movq %r14, 88(%rbx)
	movl $0, 200(%rbx)
L32:
	movq %rax, %rdi
	callq _Unwind_Resume@PLT

# rustc rustc 1.95.0 (59807616e 2026-04-14)
	pushq %rbp
	pushq %r15
	pushq %r14
	pushq %r13
	pushq %r12
	pushq %rbx
	subq $56, %rsp
	movq %rcx, %r9
	movq %rdi, 48(%rsp)
	movq 112(%rsi), %r15
	movl 48(%rdx), %ecx
	andl $63, %ecx
	movl $1, %edi
	movl $1, %r11d
	shlq %cl, %r11
	leaq -1(%r11), %rax
	andq %r15, %rax
	subq %rax, %r11
	cmpq %r11, %r9
	cmovbq %r9, %r11
	movq %r15, %rax
	shrq %cl, %rax
	testq %r11, %r11
	je L8
	movq %r8, %r10
	movq %rsi, 8(%rsp)
	movq 40(%rdx), %rbp
	movq $-1, %r9
	shlq %cl, %r9
	notq %r9
	andq %r15, %r9
	imulq %rbp, %r9
	addq 24(%rdx), %r9
	movq 8(%rdx), %r8
	movq %r8, %rsi
	subq $8, %rsi
	jb L25
	movq %r8, 24(%rsp)
	leaq 2(,%rax,2), %r12
	movq %rdx, 40(%rsp)
	movq (%rdx), %rax
	leaq (%r15,%r11), %rdx
	movq %rdx, 32(%rsp)
	leaq (%rax,%r9,8), %rax
	leaq (,%rbp,8), %rdx
	xorl %r14d, %r14d
	movq %r15, 16(%rsp)
	movq %r15, %r13
L3:
	cmpq %rsi, %r9
	ja L22
	movq (%rax), %r8
	cmpq %r12, %r8
	jne L9
	#MEMBARRIER
	leaq 8(%rax), %r15
	#APP
	movups (%r15), %xmm0
	#NO_APP
	leaq 24(%rax), %r15
	#APP
	movups (%r15), %xmm1
	#NO_APP
	leaq 40(%rax), %r15
	#APP
	movups (%r15), %xmm2
	#NO_APP
	movq 56(%rax), %r15
	#MEMBARRIER
	movq (%rax), %rbx
	cmpq %r12, %rbx
	jne L17
	incq %r13
	incq %r14
	addq %rbp, %r9
	paddq %xmm0, %xmm2
	paddq %xmm1, %xmm2
	movq %xmm2, %rbx
	pshufd $238, %xmm2, %xmm0
	movq %xmm0, %rdi
	addq %rbx, %rdi
	addq (%r10), %rdi
	addq %r15, %rdi
	movq %rdi, (%r10)
	addq %rdx, %rax
	cmpq %r14, %r11
	jne L3
	movq 32(%rsp), %r13
	movq %r11, %r14
	jmp L10
L8:
	xorl %r14d, %r14d
	xorl %edx, %edx
	jmp L20
L9:
	movq %r8, %r9
L10:
	xorl %edx, %edx
	movq %r13, %rax
	subq 16(%rsp), %rax
	movq 8(%rsp), %rsi
	jne L18
L11:
	cmpq %r12, %r8
	je L19
L12:
	movq 112(%rsi), %rax
	shrq %cl, %rax
	leaq 2(,%rax,2), %rcx
	movabsq $9223372036854775807, %rdx
	andq %r9, %rdx
	movq %rdx, %r8
	subq %rcx, %r8
	je L16
	testq %r8, %r8
	jg L16
	addq %rax, %rax
	orq $1, %rax
	cmpq %rax, %rdx
	setne 256(%rsi)
	movl 248(%rsi), %eax
	incl %eax
	movl %eax, 248(%rsi)
	cmpq $0, 120(%rsi)
	je L16
	movl $2, %edi
	andl $15, %eax
	jne L21
L16:
	movq %rsi, %rdi
	movq 40(%rsp), %rsi
	movq %r9, %rdx
	callq *_ZN7mapring8protocol4ring7consume6Cursor4passE@GOTPCREL(%rip)
	movq %rax, %rdi
	jmp L21
L17:
	movq 16(%rsp), %rax
	leaq (%rax,%r14), %r13
	movl $1, %edx
	movq %r12, %r9
	movq %r13, %rax
	subq 16(%rsp), %rax
	movq 8(%rsp), %rsi
	je L11
L18:
	addq %rax, 128(%rsi)
	movq %r13, 112(%rsi)
	movl $0, 248(%rsi)
	cmpq %r12, %r8
	jne L12
L19:
	movl $1, %edi
L20:
	addq %rdx, 168(%rsi)
L21:
	movq 48(%rsp), %rax
	movq %r14, (%rax)
	movq %rdi, 8(%rax)
	addq $56, %rsp
	popq %rbx
	popq %r12
	popq %r13
	popq %r14
	popq %r15
	popq %rbp
	retq
L22:
	movq 16(%rsp), %r15
	addq %r15, %r14
	movq 8(%rsp), %rbx
	movq 24(%rsp), %r8
L23:
	movl $8, %esi
	movq %r9, %rdi
	movq %r8, %rdx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)
	ud2
L25:
	movq %r15, %r14
	movq 8(%rsp), %rbx
	jmp L23
L26:
	movq %r14, %rcx
	subq %r15, %rcx
	je L28
	addq %rcx, 128(%rbx)
	movq %r14, 112(%rbx)
	movl $0, 248(%rbx)
L28:
	movq %rax, %rdi
	callq _Unwind_Resume@PLT

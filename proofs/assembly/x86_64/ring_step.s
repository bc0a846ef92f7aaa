# rustc rustc 1.95.0 (59807616e 2026-04-14)
	pushq %r15
	pushq %r14
	pushq %rbx
	movq 112(%rdi), %r9
	movl 48(%rsi), %ecx
	andl $63, %ecx
	movq $-1, %rax
	shlq %cl, %rax
	movq %r9, %r10
	shrq %cl, %r10
	notq %rax
	andq %r9, %rax
	imulq 40(%rsi), %rax
	addq 24(%rsi), %rax
	movq 8(%rsi), %r8
	movq %r8, %r11
	subq $8, %r11
	jb L18
	cmpq %r11, %rax
	ja L18
	leaq 1(%r9), %r11
	leaq 2(,%r10,2), %r8
	movq (%rsi), %r14
	movq (%r14,%rax,8), %r10
	movq $-1, %rbx
	cmpq %r8, %r10
	jne L3
	#MEMBARRIER
	movq 8(%r14,%rax,8), %r15
	movq %r15, (%rdx)
	movq 16(%r14,%rax,8), %r15
	movq %r15, 8(%rdx)
	movq 24(%r14,%rax,8), %r15
	movq %r15, 16(%rdx)
	movq 32(%r14,%rax,8), %r15
	movq %r15, 24(%rdx)
	movq 40(%r14,%rax,8), %r15
	movq %r15, 32(%rdx)
	movq 48(%r14,%rax,8), %r15
	movq %r15, 40(%rdx)
	movq 56(%r14,%rax,8), %r15
	movq %r15, 48(%rdx)
	#MEMBARRIER
	movq (%r14,%rax,8), %rax
	cmpq %r8, %rax
	jne L5
	movb $1, %al
	xorl %ebx, %ebx
	movq %r9, %rdx
	addq %rbx, %r11
	cmpq %r9, %r11
	jne L10
	jmp L8
L3:
	xorl %eax, %eax
	movq %r10, %rdx
	addq %rbx, %r11
	cmpq %r9, %r11
	je L8
L10:
	movq 128(%rdi), %r9
	addq %rbx, %r9
	incq %r9
	movq %r9, 128(%rdi)
	movq %r11, 112(%rdi)
	movl $0, 248(%rdi)
L8:
	testb %al, %al
	je L11
	xorl %eax, %eax
L17:
	popq %rbx
	popq %r14
	popq %r15
	retq
L11:
	cmpq %r8, %r10
	jne L12
	incq 168(%rdi)
	movl $1, %eax
	popq %rbx
	popq %r14
	popq %r15
	retq
L5:
	xorl %eax, %eax
	movq %r8, %rdx
	addq %rbx, %r11
	cmpq %r9, %r11
	jne L10
	jmp L8
L12:
	movq 112(%rdi), %rax
	shrq %cl, %rax
	leaq 2(,%rax,2), %rcx
	movabsq $9223372036854775807, %r8
	andq %rdx, %r8
	movq %r8, %r9
	subq %rcx, %r9
	je L16
	testq %r9, %r9
	jg L16
	addq %rax, %rax
	orq $1, %rax
	cmpq %rax, %r8
	setne 256(%rdi)
	movl 248(%rdi), %r8d
	incl %r8d
	movl %r8d, 248(%rdi)
	cmpq $0, 120(%rdi)
	je L16
	movl $2, %eax
	andl $15, %r8d
	jne L17
L16:
	movq %rdx, %rbx
	callq *_ZN7mapring8protocol4ring7consume6Cursor4passE@GOTPCREL(%rip)
	movq %rbx, %rdx
	popq %rbx
	popq %r14
	popq %r15
	retq
L18:
	movl $8, %esi
	movq %rax, %rdi
	movq %r8, %rdx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)

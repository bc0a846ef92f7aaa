# rustc rustc 1.95.0 (59807616e 2026-04-14)
	pushq %rbx
	testq %rsi, %rsi
	je L9
	movq %rdx, %rax
	movq (%rdi), %rdx
	#MEMBARRIER
	testb $1, %dl
	jne L6
	cmpq $7, %rsi
	jbe L4
	movl $56, %ecx
	movl $48, %esi
	movl $40, %r8d
	movl $32, %r9d
	movl $24, %r10d
	movl $16, %r11d
	movl $8, %ebx
	jmp L8
L6:
	cmpq $14, %rsi
	jbe L10
	movl $112, %ecx
	movl $104, %esi
	movl $96, %r8d
	movl $88, %r9d
	movl $80, %r10d
	movl $72, %r11d
	movl $64, %ebx
L8:
	movq (%rdi,%rbx), %rbx
	movq %rbx, (%rax)
	movq (%rdi,%r11), %r11
	movq %r11, 8(%rax)
	movq (%rdi,%r10), %r10
	movq %r10, 16(%rax)
	movq (%rdi,%r9), %r9
	movq %r9, 24(%rax)
	movq (%rdi,%r8), %r8
	movq %r8, 32(%rax)
	movq (%rdi,%rsi), %rsi
	movq %rsi, 40(%rax)
	movq (%rdi,%rcx), %rcx
	movq %rcx, 48(%rax)
	#MEMBARRIER
	movq (%rdi), %rcx
	xorl %eax, %eax
	cmpq %rdx, %rcx
	sete %al
	popq %rbx
	retq
L9:
	movl $1, %esi
	xorl %edi, %edi
	xorl %edx, %edx
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)
L4:
	movl $1, %edi
	movq %rsi, %rdx
	movl $7, %esi
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)
L10:
	movl $8, %edi
	movq %rsi, %rdx
	movl $7, %esi
	callq *_ZN7mapring8protocol5words7outsideE@GOTPCREL(%rip)

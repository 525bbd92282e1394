/*
 * From the PVH entry (32-bit protected mode, paging off) to ring 3 in long mode.
 *
 * Ring 0 may be emulated by the host, instruction by instruction, so it does the least it can: the page
 * tables are data of the image, and the IDT is filled by ring 3 (every page has the user bit).
 */
#include "layout.h"

.section .note.pvh, "a", @note
  .long 4, 8, 18               /* name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY */
  .asciz "Xen"
  .quad start32

.section .text
.code32
.globl start32
start32:
  cli
  cld
  movl $boot_stack_top, %esp
  movl %ebx, start_info
  xorl %ebx, %ebx              /* CPU index, kept to the end */
  call enter_long_mode
.code64
  movq $user_main, %rcx
  movq $user_stack_top, %rdx
  jmp enter_user

/* In 32-bit code; returns in 64-bit code. Used by the first and by every further CPU. */
.code32
.globl enter_long_mode
enter_long_mode:
  movl $pml4, %eax
  movl %eax, %cr3
  movl %cr4, %eax
  orl $0x20, %eax              /* PAE */
  movl %eax, %cr4
  movl $0xc0000080, %ecx       /* IA32_EFER */
  rdmsr
  orl $0x100, %eax             /* LME */
  wrmsr
  movl %cr0, %eax
  orl $0x80000001, %eax        /* PG, PE */
  movl %eax, %cr0
  lgdt gdt_pointer
  popl %eax
  pushl $KERNEL_CS
  pushl %eax
  lret
.code64

/* ebx: CPU index; rcx: ring-3 entry; rdx: its stack; rdi: its argument. Interrupts stay off. */
.globl enter_user
enter_user:
  xorl %eax, %eax
  movl %eax, %ds
  movl %eax, %es
  movl %eax, %ss
  lidt idt_pointer
  /* The TSS of this CPU: descriptor at TSS_SELECTOR + 16 * index, filled by ring 3 for all but CPU 0. */
  movl %ebx, %eax
  shll $4, %eax
  addl $TSS_SELECTOR, %eax
  testl %ebx, %ebx
  jnz 1f
  movl $tss, %esi              /* base is below 16 MiB */
  orl %esi, gdt + TSS_SELECTOR + 2
  movl $ring0_stack_top, %esi
  movl %esi, tss + 4
1:
  ltr %ax
  pushq $USER_DS
  pushq %rdx
  pushq $2
  pushq $USER_CS
  pushq %rcx
  iretq

/*
 * The way from ring 3 to ring 0: `ud2` with a function in rax. KVM's emulator does not know `int n` in
 * protected mode. Only ring 3 comes this way on purpose.
 */
.globl gate_ud
gate_ud:
  testb $3, 8(%rsp)
  jz exception_6
  addq $2, (%rsp)
  call *%rax
  iretq

/* Called through the gate: sets the interrupt flag of the ring-3 frame. */
.globl ring0_interrupts_on
ring0_interrupts_on:
  orq $0x200, 24(%rsp)
  ret

/* Called through the gate: rdi = counter, esi = value it had; waits until it differs. */
.globl ring0_wait
ring0_wait:
  cmpl %esi, (%rdi)
  jne 1f
  sti
  hlt
  cli
  jmp ring0_wait
1:
  ret

/* Called through the gate: halts with interrupts off, for ever (only an NMI or INIT comes through). */
.globl ring0_halt
ring0_halt:
  cli
  hlt
  jmp ring0_halt

/* Called through the gate: edi = port, rsi = bytes, rdx = count. */
.globl ring0_outs
ring0_outs:
  movq %rdx, %rcx
  movl %edi, %edx
  rep outsb
  ret

/* Called through the gate: no IDT and an exception make a triple fault. */
.globl ring0_triple_fault
ring0_triple_fault:
  lidt no_idt
  ud2

.globl gate_nmi
gate_nmi:
  lock incl nmi_count
  lock incl irq_total
  iretq

.macro irq_stub vector
  .balign 16
irq_\vector:
  lock incl irq_counts + 4 * \vector
  jmp irq_end
.endm

irq_end:
  lock incl irq_total
  pushq %rax
  cmpb $0, lapic_x2
  jne 1f
  movl $0xfee000b0, %eax       /* EOI */
  movl $0, (%rax)
  popq %rax
  iretq
1:
  pushq %rcx
  pushq %rdx
  movl $0x80b, %ecx
  xorl %eax, %eax
  xorl %edx, %edx
  wrmsr
  popq %rdx
  popq %rcx
  popq %rax
  iretq

.balign 16
.globl irq_stubs
irq_stubs:
.altmacro
.set i, 32
.rept 224
  irq_stub %i
  .set i, i + 1
.endr

/* Exceptions: note vector, error code, rip and cr2, and go on at user_fault in ring 3. */
.macro exception vector, has_error
  .balign 32
exception_\vector:
  .if \has_error
  popq fault_error
  .else
  movq $0, fault_error
  .endif
  movl $\vector, fault_vector
  jmp exception_end
.endm

exception_end:
  pushq %rax
  movq 8(%rsp), %rax
  movq %rax, fault_rip
  movq 16(%rsp), %rax
  movq %rax, fault_cs
  movq %cr2, %rax
  movq %rax, fault_cr2
  movq $user_fault, 8(%rsp)
  movq $USER_CS, 16(%rsp)
  movq $fault_stack_top, 32(%rsp)
  movq $USER_DS, 40(%rsp)
  popq %rax
  iretq

.balign 32
.globl exception_stubs
exception_stubs:
.set i, 0
.rept 32
  .if (i == 8) || ((i >= 10) && (i <= 14)) || (i == 17) || (i == 21) || (i == 29) || (i == 30)
  exception %i, 1
  .else
  exception %i, 0
  .endif
  .set i, i + 1
.endr

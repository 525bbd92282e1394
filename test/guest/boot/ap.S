/* A further CPU, from the start-up IPI in real mode to ring 3. The BSP copies ap_start to TRAMPOLINE. */
#include "layout.h"

.section .text
.code16
.globl ap_start, ap_end
ap_start:
  cli
  movw %cs, %ax
  movw %ax, %ds
  lgdtl ap_gdt_pointer - ap_start
  movl %cr0, %eax
  orl $1, %eax
  movl %eax, %cr0
  ljmpl $0x18, $ap_protected
ap_gdt_pointer:
  .word 0x2f                   /* the six segments; enter_long_mode loads the whole table */
  .long gdt
ap_end:

.code32
ap_protected:
  movw $0x10, %ax
  movw %ax, %ds
  movw %ax, %es
  movw %ax, %ss
  movl ap_ring0_stack, %esp
  movl ap_index, %ebx
  call enter_long_mode
.code64
  movq ap_entry, %rcx
  movq ap_user_stack, %rdx
  jmp enter_user

/* What the CPU being started takes; smp.c starts one at a time. */
.section .bss
.balign 8
.globl ap_ring0_stack, ap_user_stack, ap_entry, ap_index
ap_ring0_stack: .skip 8
ap_user_stack: .skip 8
ap_entry: .skip 8
ap_index: .skip 8

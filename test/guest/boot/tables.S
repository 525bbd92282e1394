/* Descriptor and page tables, stacks and what the ring-0 stubs write. */
#include "layout.h"

.section .data
.balign 16
.globl gdt
gdt:
  .quad 0
  .quad 0x00af9b000000ffff     /* 0x08 ring 0 code, 64-bit */
  .quad 0x00cf93000000ffff     /* 0x10 ring 0 data */
  .quad 0x00cf9b000000ffff     /* 0x18 ring 0 code, 32-bit */
  .quad 0x00cff3000000ffff     /* 0x20 ring 3 data */
  .quad 0x00affb000000ffff     /* 0x28 ring 3 code, 64-bit */
.rept MAX_CPUS
  .quad 0x0000890000000067, 0  /* available 64-bit TSS, base filled later */
.endr
gdt_end:
.globl gdt_pointer
gdt_pointer:
  .word gdt_end - gdt - 1
  .quad gdt
.balign 16
.globl idt_pointer
idt_pointer:
  .word 256 * 16 - 1
  .quad idt
.globl no_idt
no_idt:
  .word 0
  .quad 0

/* Identity map of the low 4 GiB in 2 MiB pages: present, writable, user. PML4[1] is filled by map_physical. */
.balign 4096
.globl pml4
pml4:
  .quad pdpt + 7, window_pdpt + 7
  .fill 510, 8, 0
pdpt:
  .quad pd + 7, pd + 0x1007, pd + 0x2007, pd + 0x3007
  .fill 508, 8, 0
pd:
.set page, 0
.rept 2048
  .quad page + 0x87
  .set page, page + 0x200000
.endr
.globl window_pdpt
window_pdpt:
  .quad window_pd + 7
  .fill 511, 8, 0
.globl window_pd
window_pd:
  .fill 512, 8, 0

.section .bss
.balign 4096
.globl idt
idt:
  .skip 4096
  .skip STACK_SIZE
.globl boot_stack_top
boot_stack_top:
  .skip STACK_SIZE
.globl ring0_stack_top
ring0_stack_top:
  .skip STACK_SIZE * 4
.globl user_stack_top
user_stack_top:
  .skip STACK_SIZE
.globl fault_stack_top
fault_stack_top:
.globl tss
tss:
  .skip TSS_SIZE * MAX_CPUS
.balign 8
.globl start_info, nmi_count, irq_total, irq_counts, lapic_x2
start_info: .skip 8
nmi_count: .skip 4
lapic_x2: .skip 4
irq_total: .skip 8
irq_counts: .skip 1024
.globl fault_vector, fault_error, fault_rip, fault_cs, fault_cr2
fault_vector: .skip 8
fault_error: .skip 8
fault_rip: .skip 8
fault_cs: .skip 8
fault_cr2: .skip 8

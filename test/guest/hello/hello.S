/*
 * The smallest guest: writes one line to port 0x3f8 and ends, for measuring how fast a VMM starts and stops.
 *
 * The first letter of the command line chooses what follows the line: `i` halts for ever with interrupts off
 * (an idle machine), `s` spins; anything else powers off in every way that some VMM knows.
 */
.section .note.pvh, "a", @note
  .long 4, 8, 18               /* name size, descriptor size, XEN_ELFNOTE_PHYS32_ENTRY */
  .asciz "Xen"
  .quad start

.section .text
.code32
.globl start
start:
  movl $0x3f8, %edx
  movl $text, %esi
  movl $text_end - text, %ecx
  cld
  rep outsb
  movl 24(%ebx), %eax          /* PVH start info: command line */
  movb (%eax), %al
  cmpb $'s', %al
  je spin
  cmpb $'i', %al
  je idle
  movl $0x600, %edx            /* ACPI sleep control: S5 (tsvmm, Cloud Hypervisor) */
  movb $0x34, %al
  outb %al, %dx
  movl $0x604, %edx            /* PM1a control: S5 (QEMU q35) */
  movl $0x2000, %eax
  outw %ax, %dx
  movb $0xfe, %al              /* i8042: reset (Firecracker) */
  outb %al, $0x64
  lidt no_idt                  /* triple fault (QEMU microvm) */
  ud2
idle:
  cli
  hlt
  jmp idle
spin:
  jmp spin
text:
  .ascii "hello\n"
text_end:
no_idt:
  .word 0
  .long 0

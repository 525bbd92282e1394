/* What assembly and C both know. */
#pragma once

#define MAX_CPUS 254

#define KERNEL_CS 0x08
#define USER_DS 0x23
#define USER_CS 0x2b
#define TSS_SELECTOR 0x30
#define TSS_SIZE 104

#define STACK_SIZE 0x4000
/* Where further CPUs start, in real mode: SIPI vector = address >> 12. Free on every VMM we boot
 * on. */
#define TRAMPOLINE 0x80000

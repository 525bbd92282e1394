/* Starting the other CPUs that the MADT lists (INIT, start-up IPI: Intel SDM volume 3, §9.4.4). */
#include "guest.h"

#define ICR_INIT 0x4500
#define ICR_STARTUP 0x4600
#define MADT_ENTRIES 44
#define MADT_LOCAL_APIC 0
#define MADT_LOCAL_X2APIC 9

extern u8 ap_start[], ap_end[];
extern volatile u64 ap_ring0_stack, ap_user_stack, ap_entry;
extern volatile u32 ap_index;
extern u64 gdt[];
extern u8 tss[];
extern u64 ring0_interrupts_on(u64, u64, u64);

#define TSS_BUSY (1ul << 41)

static void (*ap_main)(u32 index);
static volatile u32 arrived;
/* Of each CPU, which may be started again. */
static u64 ring0_stacks[MAX_CPUS], user_stacks[MAX_CPUS];

static void __attribute__((noreturn)) ap_user_main(void) {
  u32 index = ap_index;
  lapic_init();
  ring0(ring0_interrupts_on, 0, 0, 0);
  arrived = index;
  ap_main(index);
  halt_forever();
}

static void fill_tss(u32 index, u64 stack) {
  u64 base = (u64)tss + index * TSS_SIZE;
  u64 *descriptor = &gdt[TSS_SELECTOR / 8 + index * 2];
  descriptor[0] &= ~TSS_BUSY;
  descriptor[0] |= (base & 0xffffff) << 16 | (base >> 24 & 0xff) << 56;
  descriptor[1] = base >> 32;
  memcpy((u8 *)base + 4, &stack, 8);
  *(u16 *)(base + 102) = TSS_SIZE;
}

bool smp_start_one(u32 index, u32 apic_id, void (*main)(u32 index), u64 timeout_us) {
  if (ring0_stacks[index] == 0) {
    ring0_stacks[index] = (u64)alloc(STACK_SIZE) + STACK_SIZE;
    user_stacks[index] = (u64)alloc(STACK_SIZE) + STACK_SIZE - 8;
  }
  memcpy((void *)TRAMPOLINE, ap_start, (size_t)(ap_end - ap_start));
  ap_main = main;
  arrived = 0;
  ap_ring0_stack = ring0_stacks[index];
  ap_user_stack = user_stacks[index];
  ap_entry = (u64)ap_user_main;
  ap_index = index;
  fill_tss(index, ap_ring0_stack);
  lapic_send(apic_id, ICR_INIT);
  delay_us(200);
  lapic_send(apic_id, ICR_STARTUP | TRAMPOLINE >> 12);
  for (u64 end = now_us() + timeout_us; now_us() < end;) {
    if (arrived == index) return true;
    pause();
  }
  return false;
}

u32 smp_start(void (*main)(u32 index), u64 timeout_us) {
  const struct acpi_header *madt = acpi_table("APIC", 0);
  if (madt == NULL) return 0;
  u32 self = lapic_id(), index = 0;
  const u8 *end = (const u8 *)madt + madt->length;
  for (const u8 *e = (const u8 *)madt + MADT_ENTRIES; e + 2 <= end && e[1] >= 2; e += e[1]) {
    u32 id, flags;
    if (e[0] == MADT_LOCAL_APIC) {
      id = e[3];
      memcpy(&flags, e + 4, 4);
    } else if (e[0] == MADT_LOCAL_X2APIC) {
      memcpy(&id, e + 4, 4);
      memcpy(&flags, e + 8, 4);
    } else {
      continue;
    }
    if ((flags & 1) == 0 || id == self || index + 1 >= MAX_CPUS) continue;
    if (!smp_start_one(index + 1, id, main, timeout_us)) break;
    index++;
  }
  return index;
}

/* More than one CPU, NMIs, and being idle or busy. */
#include "guest.h"

#define IPI_VECTOR 0x50
#define STARTUP_TIMEOUT_US 2000000
#define ICR_ALL_OTHERS 0xc4000

static volatile u32 turns[MAX_CPUS];
static volatile bool go;
static volatile u32 total;

extern volatile u32 irq_total;
extern u64 ring0_wait(u64, u64, u64);

/* Waits halted: a host with fewer CPUs has better things to do than to run us all. */
static void worker(u32 index) {
  for (u32 seen = irq_total; !go; seen = irq_total) ring0(ring0_wait, (u64)&irq_total, seen, 0);
  for (u32 i = 0; i < 100000; i++) __asm__ volatile("lock incl %0" : "+m"(total));
  turns[index] = 1;
}

static void smp(void) {
  u32 others = smp_start(worker, STARTUP_TIMEOUT_US);
  print("cpus %u\n", others + 1);
  go = true;
  mb();
  lapic_send(0, ICR_ALL_OTHERS | IPI_VECTOR);
  u32 finished = 0;
  for (u64 end = now_us() + 10000000; finished < others && now_us() < end;) {
    finished = 0;
    for (u32 i = 1; i <= others; i++) finished += turns[i];
    pause();
  }
  check("smp-count", finished == others && total == others * 100000, "%u of %u, total %u", finished,
        others, total);
  if (others == 0) return;
  /* An IPI to all the others, which have halted with interrupts off by now: only to ourselves then.
   */
  u32 seen = irq_counts[IPI_VECTOR];
  lapic_send(lapic_id(), 0x4000 | IPI_VECTOR);
  check("smp-self-ipi", wait_irq(IPI_VECTOR, seen, 1000000), "lost");
}
PROGRAM("smp", smp);

static void idle(void) {
  print("idle\n");
  halt_forever();
}
PROGRAM("idle", idle);

/* Busy in ring 3 for ever, with a dot now and then. */
static void spin(void) {
  print("spinning\n");
  for (u64 next = now_us();;) {
    while (now_us() < next) pause();
    print(".");
    next += option_number("every", 100000);
  }
}
PROGRAM("spin", spin);

/* Halted between dots: wakes by the APIC timer. */
static void tick(void) {
  print("ticking\n");
  for (;;) {
    wait_irq(IPI_VECTOR, irq_counts[IPI_VECTOR], option_number("every", 100000));
    print(".");
  }
}
PROGRAM("tick", tick);

static void nmi(void) {
  print("waiting\n");
  for (u64 end = now_us() + 10000000; nmi_count == 0 && now_us() < end;) pause();
  check("nmi", nmi_count != 0, "none in ten seconds");
}
PROGRAM("nmi", nmi);

static u64 ring0_cmpxchg16b(u64 operand, u64 b, u64 c) {
  (void)b, (void)c;
  __asm__ volatile("lock cmpxchg16b (%0)" ::"r"(operand), "a"(0), "b"(0), "c"(0), "d"(0)
                   : "memory");
  return 0;
}

/* An instruction in ring 0 that a KVM without hardware virtualization cannot run. */
static void unemulatable(void) {
  print("now\n");
  ring0(ring0_cmpxchg16b, (u64)alloc(4096), 0, 0);
  ok("unemulatable");
}
PROGRAM("unemulatable", unemulatable);

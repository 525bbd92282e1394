/* All CPUs at the CPU hot-plug controller: other CPUs' bits, ejections that nobody asked for, any
 * width. */
#include "hostile.h"
#include "hotplug.h"

#define RUN_US 3000000

static struct cpu_controller controller;
static volatile bool stop;
static volatile u32 finished;

static void assault(u32 *state) {
  *state = *state * 1664525 + 1013904223;
  u32 random = *state >> 8;
  volatile u8 *at = controller.registers + random % 12;
  write32(controller.registers, random % 16 == 0 ? ~0u : random % 12);
  write8(controller.registers + 4, CPU_EJECT);
  switch (random % 5) {
    case 0:
      write8(at, (u8)(random >> 4));
      break;
    case 1:
      write16(at, (u16)(random >> 4));
      break;
    case 2:
      write64(at, random);
      break;
    case 3:
      read64(at);
      break;
    default:
      read8(controller.events);
  }
}

static void play(u32 index) {
  u32 state = index * 7919 + 1;
  while (!stop) assault(&state);
  __asm__ volatile("lock incl %0" : "+m"(finished));
}

static void vcpus(void) {
  if (!check("vcpus-controller", cpu_controller_find(&controller), "none")) return;
  u32 others = smp_start(play, 20000000);
  if (!check("vcpus-others", others > 0, "one CPU only")) return;
  u32 state = 1;
  for (u64 end = now_us() + option_number("time", RUN_US); now_us() < end;) assault(&state);
  stop = true;
  for (u64 end = now_us() + 20000000; finished < others && now_us() < end;) pause();
  check("vcpus-ended", finished == others, "%u of %u", finished, others);
  for (u32 cpu = 0; cpu <= others; cpu++) {
    if ((cpu_status(&controller, cpu) & CPU_ENABLED) == 0) not_ok("vcpus-kept", "CPU %u", cpu);
  }
}
PROGRAM("hostile-vcpus", vcpus);

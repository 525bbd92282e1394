/* All CPUs at the CPU hot-plug controller: other CPUs' bits, ejections that nobody asked for, any
 * width. */
#include "crowd.h"
#include "hotplug.h"

static struct cpu_controller controller;

static void assault(u32 index, u32 *state) {
  (void)index;
  u32 random = crowd_random(state);
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

static void vcpus(void) {
  if (!check("vcpus-controller", cpu_controller_find(&controller), "none")) return;
  u32 others = crowd("vcpus", assault, crowd_has_time);
  if (others == 0) return;
  for (u32 cpu = 0; cpu <= others; cpu++) {
    if ((cpu_status(&controller, cpu) & CPU_ENABLED) == 0) not_ok("vcpus-kept", "CPU %u", cpu);
  }
}
PROGRAM("hostile-vcpus", vcpus);

/* CPUs that come while the machine runs, and leave it, as the AML would have it. APIC ids are
 * indexes. */
#include "hotplug.h"

#define POLL_VECTOR 0x52
#define POLL_US 2000
#define STARTUP_TIMEOUT_US 20000000

static volatile u32 turns[MAX_CPUS];
static volatile bool leave[MAX_CPUS], gone[MAX_CPUS];

static void work(u32 index) {
  while (!leave[index]) turns[index]++;
  gone[index] = true;
}

static void came(u32 cpu) {
  leave[cpu] = gone[cpu] = false;
  bool up = smp_start_one(cpu, cpu, work, STARTUP_TIMEOUT_US);
  u32 before = turns[cpu];
  for (u64 end = now_us() + STARTUP_TIMEOUT_US; up && turns[cpu] == before && now_us() < end;) {
    pause();
  }
  print("vcpu %u %s\n", cpu, up && turns[cpu] != before ? "works" : "does nothing");
}

static void goes(const struct cpu_controller *c, u32 cpu) {
  leave[cpu] = true;
  for (u64 end = now_us() + STARTUP_TIMEOUT_US; !gone[cpu] && now_us() < end;) pause();
  cpu_write(c, cpu, CPU_EJECT);
  print("vcpu %u %s\n", cpu, cpu_status(c, cpu) == 0 ? "left" : "is still there");
}

/* With keep=1 none is given up. */
static void vcpus(void) {
  struct cpu_controller c = {0};
  if (!check("vcpus-controller", cpu_controller_find(&c), "none")) return;
  bool keep = option_number("keep", 0) != 0;
  for (u32 cpu = 1; cpu < MAX_CPUS; cpu++) {
    if (cpu_status(&c, cpu) == CPU_ENABLED) came(cpu);
  }
  print("vcpus ready\n");
  for (;;) {
    wait_irq(POLL_VECTOR, irq_counts[POLL_VECTOR], POLL_US);
    if ((read8(c.events) & GED_CPU) == 0) continue;
    for (u32 cpu = 0; cpu < MAX_CPUS; cpu++) {
      u8 status = cpu_status(&c, cpu);
      if ((status & CPU_INSERTING) != 0) {
        cpu_write(&c, cpu, CPU_INSERTING);
        came(cpu);
      }
      if ((status & CPU_REMOVING) != 0) {
        cpu_write(&c, cpu, CPU_REMOVING);
        if (!keep) goes(&c, cpu);
      }
    }
  }
}
PROGRAM("vcpus", vcpus);

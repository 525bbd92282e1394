#include "exits.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* A page-table based KVM has no kvm_exit; what it emulates or hands to user space shows in the
 * others. */
static const char* const tracepoints[] = {
    "kvm_exit", "kvm_userspace_exit", "kvm_mmio",       "kvm_fast_mmio", "kvm_pio",
    "kvm_msr",  "kvm_msi_set_irq",    "kvm_vcpu_wakeup"};
enum { kTracepoints = sizeof tracepoints / sizeof tracepoints[0] };

static long ids[kTracepoints]; /* -1: there is no such tracepoint */
static int counters[kTracepoints][kMaxThreads];
static size_t thread_count;
static const char* missing = "not counted";

static long tracepoint_id(const char* name) {
  static const char* const folders[] = {"/sys/kernel/tracing", "/sys/kernel/debug/tracing"};
  char path[128];
  long id = -1;
  for (size_t i = 0; i < 2 && id < 0; i++) {
    snprintf(path, sizeof path, "%s/events/kvm/%s/id", folders[i], name);
    FILE* file = fopen(path, "re");
    if (file == NULL) continue;
    if (fscanf(file, "%ld", &id) != 1) id = -1;
    fclose(file);
  }
  return id;
}

static int open_counter(long id, pid_t thread) {
  struct perf_event_attr attributes = {.type = PERF_TYPE_TRACEPOINT,
                                       .size = sizeof attributes,
                                       .config = (uint64_t)id,
                                       .inherit = 1};
  return (int)syscall(SYS_perf_event_open, &attributes, thread, -1, -1, PERF_FLAG_FD_CLOEXEC);
}

/* The first user of a tracepoint waits until the kernel's code is patched, in which time a guest
 * would go on uncounted. */
void prepare_counting_exits(void) {
  for (size_t i = 0; i < kTracepoints; i++) {
    ids[i] = tracepoint_id(tracepoints[i]);
    if (ids[i] >= 0) open_counter(ids[i], 0); /* stays open */
  }
}

void start_counting_exits(const struct sample* sample) {
  thread_count = sample->thread_count;
  missing = "tracefs has no KVM tracepoints that we may read";
  for (size_t i = 0; i < kTracepoints; i++) {
    for (size_t j = 0; j < thread_count; j++) {
      counters[i][j] = ids[i] < 0 ? -1 : open_counter(ids[i], sample->threads[j].thread);
      if (counters[i][j] >= 0) missing = NULL;
      if (ids[i] >= 0 && counters[i][j] < 0 && missing != NULL) missing = strerror(errno);
    }
  }
}

void print_exits(void) {
  if (missing != NULL) {
    printf("counters-missing %s\n", missing);
    return;
  }
  for (size_t i = 0; i < kTracepoints; i++) {
    uint64_t total = 0, value;
    for (size_t j = 0; j < thread_count; j++)
      if (counters[i][j] >= 0 && read(counters[i][j], &value, sizeof value) == sizeof value)
        total += value;
    printf("counter %s %lu\n", tracepoints[i], total);
  }
}

/* The CPU time that each thread of a VMM has used so far. */
#pragma once
#include "host.h"

enum { kMaxThreads = 256 };

struct thread_time {
  pid_t thread;
  char name[16];
  bool is_vcpu;
  uint64_t ns;
};

struct sample {
  uint64_t time_ns;
  size_t thread_count;
  struct thread_time threads[kMaxThreads];
};

/* Threads whose name starts with vcpu_prefix are vCPUs. */
void take_sample(struct sample* sample, pid_t process, const char* vcpu_prefix);
/* The difference: `thread NS NAME` for each that ran, `wall NS`, `cpu NS`, `cpu-vcpu NS`. */
void print_usage(const struct sample* before, const struct sample* after);
/* `rest WALL CPU`: what threads other than vCPUs used meanwhile. */
void print_rest(const struct sample* before, const struct sample* after);

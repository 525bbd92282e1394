/* Counts what guests leave guest mode for, by KVM's tracepoints. */
#pragma once
#include "sample.h"

/* Once, before the guest begins. */
void prepare_counting_exits(void);
/* Starts counting in all threads that the sample names, and those that they start. */
void start_counting_exits(const struct sample* sample);
/* `counter NAME COUNT` for each tracepoint since then, or `counters-missing WHY`. */
void print_exits(void);

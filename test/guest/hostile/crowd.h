/* All CPUs against something. */
#pragma once
#include "hostile.h"

/* Every CPU calls `assault` again and again, with its index (from 0) and random state of its own,
 * for as long as `goes_on`, which the first CPU asks before each of its calls. Reports NAME-others
 * when all have begun, and NAME-ended at the end; how many others there are, 0 if none. */
u32 crowd(const char *name, void (*assault)(u32 index, u32 *state), bool (*goes_on)(void));
u32 crowd_random(u32 *state);
/* For as many microseconds as the option `time` says, 1.5 s unless it does. */
bool crowd_has_time(void);

/* A disk that is left alone and must not be disturbed: opens the nth; ends the run if there is
 * none. */
void witness_open(u32 nth);
const struct virtio *witness_device(void);
/* Uses it; goes on until the host sends an NMI. */
bool witness_goes_on(void);
/* Reports whether it has always worked. */
void witness_report(const char *name);

/* All CPUs against something, until the host sends an NMI, beside a disk that is left alone. */
#pragma once
#include "hostile.h"

/* Opens the nth disk, which is used all the time and must not be disturbed; ends the run if there
 * is none. */
void witness_open(u32 nth);
u32 witness_slot(void);
const struct virtio *witness_device(void);

/* Every CPU calls `assault` again and again, with its index (from 0) and random state of its own.
 * Reports NAME-others when all have begun; then, at the end, NAME-ended and NAME-witness. */
void crowd(const char *name, void (*assault)(u32 index, u32 *state));
u32 crowd_random(u32 *state);

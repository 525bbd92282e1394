/*
 * What hostile programs share: do something to a disk's queue, see what the device makes of it, and
 * that it works again after a reset.
 */
#pragma once
#include "block.h"

/* What a device may make of an attack, as bits. */
enum {
  OUT_BROKEN = 1,  /* DEVICE_NEEDS_RESET */
  OUT_FAILED = 2,  /* the request came back with an error status, or untouched */
  OUT_OK = 4,      /* the request came back as done */
  OUT_IGNORED = 8, /* nothing happened */
  OUT_REFUSED = OUT_BROKEN | OUT_FAILED | OUT_IGNORED,
  OUT_ANY = 15
};

const char *outcome_name(u32 outcome);

/* A fresh first disk with these features; ends the run if there is none. */
void victim_open(struct block *block, u64 features);
/* A request header for reading sector 1 with an own status byte, outside the driver's slots. */
struct request {
  volatile struct block_header header;
  volatile u8 status;
  volatile u8 data[4096] __attribute__((aligned(8)));
};
struct request *request_new(u32 type, u64 sector);
/* Fills one descriptor of the victim's table. */
void set_desc(struct block *block, u16 index, u64 address, u32 length, u16 flags, u16 next);
/* Header, data and status in descriptors 0 to 2: a good read, for spoiling. */
struct request *good_chain(struct block *block, u16 first);
/* Kicks and waits for what becomes of the request. */
u32 outcome_of(struct block *block, struct request *request);
/* Reports ok if the outcome is allowed and the disk works after a reset. */
void judge(const char *name, struct block *block, u32 outcome, u32 allowed);
/* push head 0, outcome_of, judge */
void attack(const char *name, struct block *block, struct request *request, u32 allowed);
/* True if a fresh start of the disk reads a sector. */
bool recovers(struct block *block);

/* Physical addresses where no memory is. */
u64 hole_address(void);

u64 random_next(void); /* the same sequence in each run */

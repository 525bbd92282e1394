/* A virtio-blk driver (virtio 1.2 §5.2). */
#pragma once
#include "virtio.h"

#define SECTOR 512

#define BLOCK_F_SEG_MAX (1ul << 2)
#define BLOCK_F_RO (1ul << 5)
#define BLOCK_F_BLK_SIZE (1ul << 6)
#define BLOCK_F_FLUSH (1ul << 9)
#define BLOCK_F_TOPOLOGY (1ul << 10)
#define BLOCK_F_CONFIG_WCE (1ul << 11)
#define BLOCK_F_MQ (1ul << 12)
#define BLOCK_F_DISCARD (1ul << 13)
#define BLOCK_F_WRITE_ZEROES (1ul << 14)
#define BLOCK_FEATURES                                                                          \
  (BLOCK_F_SEG_MAX | BLOCK_F_RO | BLOCK_F_BLK_SIZE | BLOCK_F_FLUSH | BLOCK_F_TOPOLOGY |         \
   BLOCK_F_CONFIG_WCE | BLOCK_F_MQ | BLOCK_F_DISCARD | BLOCK_F_WRITE_ZEROES | F_INDIRECT_DESC | \
   F_EVENT_IDX)

enum {
  BLOCK_IN = 0,
  BLOCK_OUT = 1,
  BLOCK_FLUSH = 4,
  BLOCK_GET_ID = 8,
  BLOCK_DISCARD = 11,
  BLOCK_WRITE_ZEROES = 13
};
/* Status byte of a request; TIMEOUT and BROKEN are ours: no answer, or DEVICE_NEEDS_RESET. */
enum { BLOCK_OK = 0, BLOCK_IOERR = 1, BLOCK_UNSUPP = 2, BLOCK_TIMEOUT = 0xfe, BLOCK_BROKEN = 0xfd };
#define BLOCK_UNTOUCHED 0xee
/* Unless the option block-timeout says otherwise. */
#define BLOCK_TIMEOUT_US 2000000

struct block_header {
  u32 type, reserved;
  u64 sector;
};

struct block {
  struct virtio device;
  struct virtqueue queue;
  u64 sectors;
  volatile struct block_header *headers; /* by head */
  volatile u8 *statuses;
};

/* Finds and resets the nth disk, negotiates offered & features and starts queue 0. */
bool block_open(struct block *block, u32 nth, u64 features, u16 vector);
/* The same with b->device found already. */
void block_start(struct block *block, u64 features, u16 vector);
/* Resets and starts again, with what block_open chose; the old rings are abandoned. */
void block_reopen(struct block *block);
/* Puts one request on the queue and returns its head, or -1; the caller kicks. */
int block_submit(struct block *block, u32 type, u64 sector, volatile void *data, u32 length);
/* Submits, waits, and returns the status byte (or BLOCK_TIMEOUT, BLOCK_BROKEN). */
u8 block_request(struct block *block, u32 type, u64 sector, volatile void *data, u32 length);
/* Waits for a used element; false if none came or the device wants a reset. */
bool block_wait(struct block *block, u32 *head, u32 *length);
/* The content that the tests agree on: sector `number` of generation `seed`. */
void block_pattern(void *data, u64 number, u32 count, u64 seed);
bool block_matches(const void *data, u64 number, u32 count, u64 seed);

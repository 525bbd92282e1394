/* A memory device (virtio 1.2 §5.15). */
#pragma once
#include "virtio.h"

#define MEM_BLOCK 0x200000ul

/* Requests and answers (§5.15.6) */
#define MEM_PLUG 0
#define MEM_UNPLUG 1
#define MEM_UNPLUG_ALL 2
#define MEM_STATE 3
#define MEM_ACK 0
#define MEM_NACK 1
#define MEM_BUSY 2
#define MEM_ERROR 3
#define MEM_PLUGGED 0
#define MEM_UNPLUGGED 1
#define MEM_MIXED 2

/* Device configuration (§5.15.4) */
#define MEM_CONFIG_BLOCK_SIZE 0
#define MEM_CONFIG_ADDRESS 16
#define MEM_CONFIG_REGION_SIZE 24
#define MEM_CONFIG_PLUGGED_SIZE 40
#define MEM_CONFIG_REQUESTED_SIZE 48

struct mem_request {
  u16 type, padding[3];
  u64 address;
  u16 blocks, padding2[3];
};
struct mem_answer {
  u16 type, padding[3], state;
};

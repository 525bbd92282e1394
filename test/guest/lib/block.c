#include "block.h"

void block_start(struct block *b, u64 features, u16 vector) {
  virtio_start(&b->device, features);
  virtqueue_init(&b->queue, &b->device, 0, 0, vector);
  b->headers = alloc(b->queue.size * sizeof(struct block_header));
  b->statuses = alloc(b->queue.size);
  virtio_driver_ok(&b->device);
  b->sectors = read32(b->device.config) | (u64)read32(b->device.config + 4) << 32;
}

bool block_open(struct block *b, u32 nth, u64 features, u16 vector) {
  if (!virtio_find(&b->device, VIRTIO_BLOCK, nth)) return false;
  block_start(b, features, vector);
  return true;
}

void block_reopen(struct block *b) { block_start(b, b->device.features, NO_VECTOR); }

int block_submit(struct block *b, u32 type, u64 sector, volatile void *data, u32 length) {
  u16 slot = b->queue.free_head;
  if (b->queue.free_count < 3) return -1;
  b->headers[slot].type = type;
  b->headers[slot].reserved = 0;
  b->headers[slot].sector = sector;
  b->statuses[slot] = BLOCK_UNTOUCHED;
  struct buffer buffers[3] = {{&b->headers[slot], sizeof(struct block_header)}};
  u32 count = 1;
  if (length != 0) buffers[count++] = (struct buffer){data, length};
  buffers[count] = (struct buffer){&b->statuses[slot], 1};
  bool to_device = type == BLOCK_OUT || type == BLOCK_DISCARD || type == BLOCK_WRITE_ZEROES;
  u32 out = to_device ? count : 1;
  return virtqueue_add(&b->queue, buffers, out, count + 1 - out);
}

bool block_wait(struct block *b, u32 *head, u32 *length) {
  for (u64 end = now_us() + option_number("block-timeout", BLOCK_TIMEOUT_US);;) {
    /* A read of the status leaves the machine, so it is rare. */
    if (virtqueue_wait(&b->queue, head, length, 20000)) return true;
    if (now_us() > end || (virtio_status(&b->device) & NEEDS_RESET) != 0) return false;
  }
}

u8 block_request(struct block *b, u32 type, u64 sector, volatile void *data, u32 length) {
  int head = block_submit(b, type, sector, data, length);
  u32 id, written;
  if (head < 0) return BLOCK_TIMEOUT;
  virtqueue_kick(&b->queue);
  if (!block_wait(b, &id, &written)) {
    return (virtio_status(&b->device) & NEEDS_RESET) != 0 ? BLOCK_BROKEN : BLOCK_TIMEOUT;
  }
  return b->statuses[head];
}

static u64 word(u64 sector, u32 index, u64 seed) {
  return (sector * 64 + index + 1) * 0x9e3779b97f4a7c15ul ^ seed;
}

void block_pattern(void *data, u64 number, u32 count, u64 seed) {
  u64 *words = data;
  for (u32 s = 0; s < count; s++)
    for (u32 i = 0; i < SECTOR / 8; i++) *words++ = word(number + s, i, seed);
}

bool block_matches(const void *data, u64 number, u32 count, u64 seed) {
  const u64 *words = data;
  for (u32 s = 0; s < count; s++)
    for (u32 i = 0; i < SECTOR / 8; i++)
      if (*words++ != word(number + s, i, seed)) return false;
  return true;
}

#include "hostile.h"

#define SETTLE_US 150000

const char *outcome_name(u32 outcome) {
  switch (outcome) {
    case OUT_BROKEN:
      return "needs-reset";
    case OUT_FAILED:
      return "failed";
    case OUT_OK:
      return "done";
    default:
      return "ignored";
  }
}

void victim_open(struct block *b, u64 features) {
  if (block_open(b, 0, features, NO_VECTOR)) return;
  not_ok("victim", "no disk");
  finish();
}

struct request *request_new(u32 type, u64 sector) {
  struct request *r = alloc(sizeof(*r));
  r->header.type = type;
  r->header.sector = sector;
  r->status = BLOCK_UNTOUCHED;
  return r;
}

void set_desc(struct block *b, u16 index, u64 address, u32 length, u16 flags, u16 next) {
  volatile struct vring_desc *d = &b->queue.desc[index];
  d->address = address;
  d->length = length;
  d->flags = flags;
  d->next = next;
}

struct request *good_chain(struct block *b, u16 first) {
  struct request *r = request_new(BLOCK_IN, 1);
  set_desc(b, first, (u64)&r->header, 16, DESC_NEXT, (u16)(first + 1));
  set_desc(b, (u16)(first + 1), (u64)r->data, SECTOR, DESC_NEXT | DESC_WRITE, (u16)(first + 2));
  set_desc(b, (u16)(first + 2), (u64)&r->status, 1, DESC_WRITE, 0);
  return r;
}

u32 outcome_of(struct block *b, struct request *r) {
  virtqueue_notify(&b->queue);
  for (u64 end = now_us() + SETTLE_US; now_us() < end;) {
    if (b->queue.used->index != b->queue.seen_used) {
      b->queue.seen_used = b->queue.used->index;
      if (r->status == BLOCK_OK) return OUT_OK;
      /* An answer that says nothing is a failure, unless the device breaks over it. */
      return (virtio_status(&b->device) & NEEDS_RESET) != 0 ? OUT_BROKEN : OUT_FAILED;
    }
    if ((virtio_status(&b->device) & NEEDS_RESET) != 0) return OUT_BROKEN;
    delay_us(50);
  }
  return OUT_IGNORED;
}

bool recovers(struct block *b) {
  block_reopen(b);
  u8 *data = alloc(SECTOR);
  u8 status = block_request(b, BLOCK_IN, 1, data, SECTOR);
  if (status != BLOCK_OK) print("recovery: status 0x%x\n", status);
  return status == BLOCK_OK;
}

void judge(const char *name, struct block *b, u32 outcome, u32 allowed) {
  if ((outcome & allowed) == 0) {
    not_ok(name, "%s", outcome_name(outcome));
    recovers(b);
  } else if (!recovers(b)) {
    not_ok(name, "%s, and dead after a reset", outcome_name(outcome));
  } else {
    ok_because(name, "%s", outcome_name(outcome));
  }
}

void attack(const char *name, struct block *b, struct request *r, u32 allowed) {
  virtqueue_push(&b->queue, 0);
  judge(name, b, outcome_of(b, r), allowed);
}

u64 hole_address(void) { return ALIGN_UP(low_memory_end(), 0x1000000) + 0x1000000; }

u64 random_next(void) {
  static u64 state = 0x853c49e6748fea9bul;
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

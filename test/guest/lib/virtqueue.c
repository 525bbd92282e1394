#include "virtio.h"

#define AVAIL_NO_INTERRUPT 1
#define USED_NO_NOTIFY 1

static volatile u16 *used_event(struct virtqueue *q) { return &q->avail->ring[q->size]; }
static volatile u16 *avail_event(struct virtqueue *q) {
  return (volatile u16 *)&q->used->ring[q->size];
}

void virtqueue_init(struct virtqueue *q, struct virtio *device, u16 index, u16 size, u16 vector) {
  volatile u8 *common = device->common;
  u16 max = virtio_queue_size(device, index);
  memset(q, 0, sizeof(*q));
  q->device = device;
  q->index = index;
  q->size = size == 0 ? max : size;
  q->desc = alloc(q->size * sizeof(struct vring_desc));
  q->avail = alloc(6 + 2ul * q->size);
  q->used = alloc(6 + 8ul * q->size);
  q->free_next = alloc(2ul * q->size);
  for (u16 i = 0; i < q->size; i++) q->free_next[i] = (u16)(i + 1);
  q->free_count = q->size;
  write16(common + COMMON_QUEUE_SELECT, index);
  write16(common + COMMON_QUEUE_SIZE, q->size);
  write16(common + COMMON_QUEUE_MSIX_VECTOR, vector);
  /* 64-bit fields are written as two halves (§4.1.3.1). */
  u64 addresses[] = {(u64)q->desc, (u64)q->avail, (u64)q->used};
  for (u32 i = 0; i < ARRAY_SIZE(addresses); i++) {
    write32(common + COMMON_QUEUE_DESC + i * 8, (u32)addresses[i]);
    write32(common + COMMON_QUEUE_DESC + i * 8 + 4, (u32)(addresses[i] >> 32));
  }
  q->doorbell =
      device->notify + read16(common + COMMON_QUEUE_NOTIFY_OFF) * device->notify_multiplier;
  write16(common + COMMON_QUEUE_ENABLE, 1);
}

void virtqueue_push(struct virtqueue *q, u16 head) {
  q->avail->ring[q->avail->index % q->size] = head;
  mb();
  q->avail->index = (u16)(q->avail->index + 1);
  mb();
}

int virtqueue_add(struct virtqueue *q, const struct buffer *buffers, u32 out, u32 in) {
  u32 count = out + in;
  if (count == 0 || count > q->free_count) return -1;
  u16 head = q->free_head, at = head;
  for (u32 i = 0; i < count; i++) {
    u16 next = q->free_next[at];
    bool last = i + 1 == count;
    q->desc[at].address = (u64)buffers[i].address;
    q->desc[at].length = buffers[i].length;
    q->desc[at].flags = (u16)((i >= out ? DESC_WRITE : 0) | (last ? 0 : DESC_NEXT));
    q->desc[at].next = last ? 0 : next;
    at = next;
  }
  q->free_head = at;
  q->free_count = (u16)(q->free_count - count);
  virtqueue_push(q, head);
  return head;
}

int virtqueue_add_indirect(struct virtqueue *q, struct vring_desc *table,
                           const struct buffer *buffers, u32 out, u32 in) {
  u32 count = out + in;
  if (count == 0 || q->free_count == 0) return -1;
  for (u32 i = 0; i < count; i++) {
    bool last = i + 1 == count;
    table[i] = (struct vring_desc){(u64)buffers[i].address, buffers[i].length,
                                   (u16)((i >= out ? DESC_WRITE : 0) | (last ? 0 : DESC_NEXT)),
                                   (u16)(last ? 0 : i + 1)};
  }
  u16 head = q->free_head;
  q->free_head = q->free_next[head];
  q->free_count--;
  q->desc[head].address = (u64)table;
  q->desc[head].length = count * sizeof(*table);
  q->desc[head].flags = DESC_INDIRECT;
  q->desc[head].next = 0;
  virtqueue_push(q, head);
  return head;
}

void virtqueue_notify(struct virtqueue *q) {
  q->kicks++;
  write16(q->doorbell, q->index);
}

void virtqueue_kick(struct virtqueue *q) {
  u16 from = q->kicked, to = q->avail->index;
  q->kicked = to;
  bool wanted;
  if (q->device->features & F_EVENT_IDX) {
    /* §2.7.10: vring_need_event */
    wanted = (u16)(to - *avail_event(q) - 1) < (u16)(to - from);
  } else {
    wanted = (q->used->flags & USED_NO_NOTIFY) == 0;
  }
  if (wanted) virtqueue_notify(q);
}

static void free_chain(struct virtqueue *q, u16 head) {
  u16 at = head, count = 1;
  while ((q->desc[at].flags & DESC_NEXT) != 0 && count < q->size) {
    q->free_next[at] = q->desc[at].next;
    at = q->desc[at].next;
    count++;
  }
  q->free_next[at] = q->free_head;
  q->free_head = head;
  q->free_count = (u16)(q->free_count + count);
}

bool virtqueue_poll(struct virtqueue *q, u32 *id, u32 *length) {
  if (q->used->index == q->seen_used) return false;
  barrier();
  volatile struct vring_used_element *e = &q->used->ring[q->seen_used % q->size];
  *id = e->id;
  *length = e->length;
  q->seen_used++;
  if (*id < q->size) free_chain(q, (u16)*id);
  return true;
}

bool virtqueue_wait(struct virtqueue *q, u32 *id, u32 *length, u64 timeout_us) {
  for (u64 end = now_us() + timeout_us;;) {
    if (virtqueue_poll(q, id, length)) return true;
    if (now_us() > end) return false;
    pause();
  }
}

void virtqueue_interrupts(struct virtqueue *q, bool on) {
  if (q->device->features & F_EVENT_IDX) {
    *used_event(q) = (u16)(on ? q->seen_used : q->seen_used - 1);
  } else {
    q->avail->flags = on ? 0 : AVAIL_NO_INTERRUPT;
  }
  mb();
}

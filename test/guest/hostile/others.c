/* Bad buffers for the devices that are no disk. */
#include "hostile.h"

static u32 settle(struct virtqueue *q) {
  u32 id, length;
  virtqueue_notify(q);
  for (u64 end = now_us() + 100000; now_us() < end; delay_us(50)) {
    if (virtqueue_poll(q, &id, &length)) return OUT_OK;
    if ((virtio_status(q->device) & NEEDS_RESET) != 0) return OUT_BROKEN;
  }
  return OUT_IGNORED;
}

static bool revive(struct virtio *d, struct virtqueue *q, u16 queues, u16 serving) {
  if (!virtio_start(d, F_INDIRECT_DESC)) return false;
  struct virtqueue other;
  for (u16 i = 0; i < queues; i++) virtqueue_init(i == serving ? q : &other, d, i, 0, NO_VECTOR);
  virtio_driver_ok(d);
  return true;
}

static void abuse(const char *name, u32 id, u16 queues, u16 serving, u16 good_flags, bool answers) {
  struct virtio d;
  struct virtqueue q;
  if (!virtio_find(&d, id, 0)) {
    not_ok(name, "no device");
    return;
  }
  u8 *good = alloc(65536);
  const struct vring_desc cases[] = {
      {hole_address(), 64, good_flags, 0},
      {low_memory_end() - 8, 64, good_flags, 0},
      {-8ul, 64, good_flags, 0},
      {1ul << 45, 64, good_flags, 0},
      {(u64)good, 0, good_flags, 0},
      {(u64)good, 0xffffffff, good_flags, 0},
      {(u64)good, 64, (u16)(good_flags ^ DESC_WRITE), 0},
      {(u64)good, 64, (u16)(good_flags | DESC_NEXT), 0},
      {(u64)good, 64, (u16)(good_flags | DESC_NEXT), 0xffff},
      {(u64)good, 63, (u16)(good_flags | DESC_INDIRECT), 0},
      {hole_address(), 64, DESC_INDIRECT, 0},
      {0xfee00000, 64, good_flags, 0},
  };
  u32 dead = 0;
  for (u32 i = 0; i < ARRAY_SIZE(cases); i++) {
    size_t mark = alloc_mark();
    if (!revive(&d, &q, queues, serving)) dead++;
    memcpy((void *)q.desc, &cases[i], sizeof(cases[i]));
    virtqueue_push(&q, 0);
    settle(&q);
    alloc_release(mark);
  }
  if (!revive(&d, &q, queues, serving)) dead++;
  virtqueue_push(&q, (u16)(q.size + 5));
  settle(&q);
  if (!revive(&d, &q, queues, serving)) dead++;
  q.avail->index = 0x7000;
  settle(&q);
  if (!revive(&d, &q, queues, serving)) dead++;
  u32 outcome = OUT_OK;
  if (answers) {
    virtqueue_add(&q, &(struct buffer){good, 16}, good_flags == 0, good_flags != 0);
    outcome = settle(&q);
  }
  check(name, dead == 0 && outcome == OUT_OK, "%u restarts failed, last outcome %s", dead,
        outcome_name(outcome));
}

static void rng(void) { abuse("rng-abuse", VIRTIO_RNG, 1, 0, DESC_WRITE, true); }
PROGRAM("hostile-rng", rng);

static void console(void) {
  abuse("console-input-abuse", VIRTIO_CONSOLE, 2, 0, DESC_WRITE, false);
  abuse("console-output-abuse", VIRTIO_CONSOLE, 2, 1, 0, true);
}
PROGRAM("hostile-console", console);

static void watchdog(void) { abuse("watchdog-abuse", VIRTIO_WATCHDOG, 1, 0, DESC_WRITE, true); }
PROGRAM("hostile-watchdog", watchdog);

static void balloon(void) {
  abuse("balloon-inflate-abuse", VIRTIO_BALLOON, 2, 0, 0, true);
  abuse("balloon-deflate-abuse", VIRTIO_BALLOON, 2, 1, 0, true);
}
PROGRAM("hostile-balloon", balloon);

static void pmem(void) { abuse("pmem-abuse", VIRTIO_PMEM, 1, 0, 0, true); }
PROGRAM("hostile-pmem", pmem);

static void mem(void) { abuse("mem-abuse", VIRTIO_MEM, 1, 0, 0, true); }
PROGRAM("hostile-mem", mem);

static void rtc(void) { abuse("rtc-abuse", VIRTIO_RTC, 1, 0, DESC_WRITE, true); }
PROGRAM("hostile-rtc", rtc);

static void vsock(void) {
  abuse("vsock-receive-abuse", VIRTIO_SOCKET, 3, 0, DESC_WRITE, false);
  abuse("vsock-transmit-abuse", VIRTIO_SOCKET, 3, 1, 0, false);
  abuse("vsock-event-abuse", VIRTIO_SOCKET, 3, 2, DESC_WRITE, false);
}
PROGRAM("hostile-vsock", vsock);

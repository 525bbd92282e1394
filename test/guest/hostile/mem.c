/* Several CPUs at a memory device: requests, memory that may go at any moment, resets and
 * registers. */
#include "mem.h"

#include "hostile.h"

#define RUN_US 1500000

static struct virtio device;
static struct virtqueue queue;
static u64 region, size;
static volatile u8 *memory;
static struct mem_request requests[4];
static struct mem_answer answers[4];
static volatile bool stop;
static volatile u32 finished;

static u32 next(u32 *state) {
  *state = *state * 1664525 + 1013904223;
  return *state >> 8;
}

/* Requests that are right, and such as are not; answers go anywhere. */
static void asker(u32 *state) {
  for (u32 i = 0; i < ARRAY_SIZE(requests); i++) {
    u64 block = next(state) % (size / MEM_BLOCK + 2);
    requests[i] = (struct mem_request){
        .type = (u16)(next(state) % 5),
        .address = region + block * MEM_BLOCK + (next(state) % 16 == 0 ? 4096 : 0),
        .blocks = (u16)(next(state) % 16 == 0 ? 0xffff : next(state) % 12)};
    u64 answer = next(state) % 4 == 0 ? region + next(state) % size : (u64)&answers[i];
    u16 d = (u16)(2 * i);
    queue.desc[d] =
        (struct vring_desc){(u64)&requests[i], sizeof(requests[i]), DESC_NEXT, (u16)(d + 1)};
    queue.desc[d + 1] = (struct vring_desc){answer, sizeof(answers[i]), DESC_WRITE, 0};
    queue.avail->ring[(queue.avail->index + i) % queue.size] = d;
  }
  queue.avail->index = (u16)(queue.avail->index + ARRAY_SIZE(requests));
  write16(queue.doorbell, 0);
}

static void toucher(u32 *state) {
  for (u32 i = 0; i < 64; i++) {
    volatile u8 *place = memory + next(state) % size;
    *place = (u8)(*place + 1);
  }
}

static void meddler(u32 *state) {
  requests[next(state) % ARRAY_SIZE(requests)].address = region + next(state) % size;
  requests[next(state) % ARRAY_SIZE(requests)].blocks = (u16)next(state);
  write64(device.config + MEM_CONFIG_REQUESTED_SIZE, ~0ul);
  read64(device.config + MEM_CONFIG_PLUGGED_SIZE);
}

static void starter(u32 *state) {
  if (next(state) % 64 != 0) return toucher(state);
  virtio_reset(&device);
  virtio_start(&device, 0);
  write16(device.common + COMMON_QUEUE_SELECT, 0);
  write32(device.common + COMMON_QUEUE_DESC, (u32)(u64)queue.desc);
  write32(device.common + COMMON_QUEUE_DRIVER, (u32)(u64)queue.avail);
  write32(device.common + COMMON_QUEUE_DEVICE, (u32)(u64)queue.used);
  write16(device.common + COMMON_QUEUE_ENABLE, 1);
  queue.avail->index = 0;
  queue.used->index = 0;
  virtio_driver_ok(&device);
}

static void (*const roles[])(u32 *) = {asker, toucher, meddler, starter};

static void play(u32 index) {
  u32 state = index * 7919 + 1;
  while (!stop) roles[index % ARRAY_SIZE(roles)](&state);
  __asm__ volatile("lock incl %0" : "+m"(finished));
}

static void fight(void) {
  if (!virtio_find(&device, VIRTIO_MEM, 0)) {
    not_ok("mem-fight", "no device");
    return;
  }
  virtio_start(&device, 0);
  virtqueue_init(&queue, &device, 0, 0, NO_VECTOR);
  virtio_driver_ok(&device);
  region = read64(device.config + MEM_CONFIG_ADDRESS);
  size = read64(device.config + MEM_CONFIG_REGION_SIZE);
  memory = map_physical(region, size);
  u32 others = smp_start(play, 2000000);
  if (!check("mem-others", others > 0, "one CPU only")) return;
  u32 state = 1;
  for (u64 end = now_us() + option_number("time", RUN_US); now_us() < end;) asker(&state);
  stop = true;
  for (u64 end = now_us() + 5000000; finished < others && now_us() < end;) pause();
  check("mem-fight", finished == others, "%u of %u", finished, others);
}
PROGRAM("hostile-mem-smp", fight);

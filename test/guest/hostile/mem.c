/* Several CPUs at a memory device: requests, memory that may go at any moment, resets and
 * registers. */
#include "mem.h"

#include "crowd.h"

static struct virtio device;
static struct virtqueue queue;
static u64 region, size;
static volatile u8 *memory;
static struct mem_request requests[4];
static struct mem_answer answers[4];

/* Requests that are right, and such as are not; answers go anywhere. */
static void asker(u32 *state) {
  for (u32 i = 0; i < ARRAY_SIZE(requests); i++) {
    u64 block = crowd_random(state) % (size / MEM_BLOCK + 2);
    requests[i] = (struct mem_request){
        .type = (u16)(crowd_random(state) % 5),
        .address = region + block * MEM_BLOCK + (crowd_random(state) % 16 == 0 ? 4096 : 0),
        .blocks = (u16)(crowd_random(state) % 16 == 0 ? 0xffff : crowd_random(state) % 12)};
    u64 answer =
        crowd_random(state) % 4 == 0 ? region + crowd_random(state) % size : (u64)&answers[i];
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
    volatile u8 *place = memory + crowd_random(state) % size;
    *place = (u8)(*place + 1);
  }
}

static void meddler(u32 *state) {
  requests[crowd_random(state) % ARRAY_SIZE(requests)].address =
      region + crowd_random(state) % size;
  requests[crowd_random(state) % ARRAY_SIZE(requests)].blocks = (u16)crowd_random(state);
  write64(device.config + MEM_CONFIG_REQUESTED_SIZE, ~0ul);
  read64(device.config + MEM_CONFIG_PLUGGED_SIZE);
}

static void starter(u32 *state) {
  if (crowd_random(state) % 64 != 0) return toucher(state);
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

static void assault(u32 index, u32 *state) { roles[index % ARRAY_SIZE(roles)](state); }

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
  crowd("mem", assault, crowd_has_time);
}
PROGRAM("hostile-mem-smp", fight);

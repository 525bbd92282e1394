/* Memory that is plugged in and out, and what is behind blocks that are not the guest's. */
#include "mem.h"

static struct virtio device;
static struct virtqueue queue;
static u64 region;
static volatile u64 *memory;

/* The type of the answer, which is written to `answer`. */
static u32 ask_into(struct mem_answer *answer, u32 type, u64 block, u32 blocks) {
  static struct mem_request request;
  u32 id, length = 0;
  request = (struct mem_request){
      .type = (u16)type, .address = region + block * MEM_BLOCK, .blocks = (u16)blocks};
  const struct buffer buffers[] = {{&request, sizeof(request)}, {answer, sizeof(*answer)}};
  virtqueue_add(&queue, buffers, 1, 1);
  virtqueue_kick(&queue);
  bool done = virtqueue_wait(&queue, &id, &length, 5000000);
  return done && length == sizeof(*answer) ? 0 : 0xbad;
}

static u32 ask(u32 type, u64 block, u32 blocks) {
  static struct mem_answer answer;
  u32 failed = ask_into(&answer, type, block, blocks);
  return failed != 0 ? failed : (u32)answer.type | (u32)answer.state << 8;
}

static void fill(u64 first, u64 count) {
  for (u64 at = first * MEM_BLOCK; at < (first + count) * MEM_BLOCK; at += 4096)
    memory[at / 8] = at ^ 0x5a5a;
}

static bool is_filled(u64 first, u64 count) {
  bool kept = true;
  for (u64 at = first * MEM_BLOCK; at < (first + count) * MEM_BLOCK; at += 4096)
    kept = memory[at / 8] == (at ^ 0x5a5a) && kept;
  return kept;
}

static bool find_memory(const char *name) {
  if (!virtio_find(&device, VIRTIO_MEM, 0)) {
    not_ok(name, "no device");
    return false;
  }
  virtio_start(&device, 0);
  virtqueue_init(&queue, &device, 0, 0, NO_VECTOR);
  virtio_driver_ok(&device);
  return true;
}

static void mem(void) {
  if (!find_memory("mem")) return;
  u64 size = read64(device.config + MEM_CONFIG_REGION_SIZE);
  u64 requested = read64(device.config + MEM_CONFIG_REQUESTED_SIZE);
  u32 blocks = (u32)(requested / MEM_BLOCK);
  region = read64(device.config + MEM_CONFIG_ADDRESS);
  memory = map_physical(region, size);
  print("mem region 0x%lx size %lu requested %lu\n", region, size, requested);
  check("mem-blocks", read64(device.config) == MEM_BLOCK && blocks >= 8 && requested < size, "%u",
        blocks);
  /* What is not there yet harms nobody, be it touched by a CPU or by a device. */
  fill(0, size / MEM_BLOCK);
  u32 by_device = ask_into((struct mem_answer *)(region + MEM_BLOCK), MEM_STATE, 0, 1);
  check("mem-unplugged", by_device == 0, "the device answered %u", by_device);
  u32 in = ask(MEM_PLUG, 0, blocks), more = ask(MEM_PLUG, blocks, 1), twice = ask(MEM_PLUG, 0, 1);
  check("mem-plug", in == MEM_ACK && more == MEM_NACK && twice == MEM_ERROR, "%u, %u, %u", in, more,
        twice);
  fill(0, blocks);
  check("mem-memory", is_filled(0, blocks), "lost");
  u32 out = ask(MEM_UNPLUG, 1, blocks - 2), state = ask(MEM_STATE, 0, blocks);
  fill(1, 1);
  check("mem-unplug", out == MEM_ACK && state == (MEM_ACK | MEM_MIXED << 8), "%u, %u", out, state);
  check("mem-kept", is_filled(0, 1) && is_filled(blocks - 1, 1), "lost");
  u64 plugged = read64(device.config + MEM_CONFIG_PLUGGED_SIZE);
  check("mem-plugged-size", plugged == 2 * MEM_BLOCK, "%lu", plugged);
  u32 all = ask(MEM_UNPLUG_ALL, 0, 0), now = ask(MEM_STATE, 0, blocks);
  check("mem-unplug-all", all == MEM_ACK && now == (MEM_ACK | MEM_UNPLUGGED << 8), "%u, %u", all,
        now);
}
PROGRAM("mem", mem);

/* Has as much as is requested, but never more than most=BLOCKS, block by block. */
static void mem_follow(void) {
  if (!find_memory("mem-follow")) return;
  u64 most = option_number("most", ~0ULL), has = 0;
  region = read64(device.config + MEM_CONFIG_ADDRESS);
  print("mem follows\n");
  for (;;) {
    u64 requested = read64(device.config + MEM_CONFIG_REQUESTED_SIZE) / MEM_BLOCK;
    u32 answer = MEM_ACK;
    if (requested > most) requested = most;
    if (has < requested) {
      answer = ask(MEM_PLUG, has++, 1);
    } else if (has > requested) {
      answer = ask(MEM_UNPLUG, --has, 1);
    }
    if (answer != MEM_ACK) {
      not_ok("mem-follow", "answered %u", answer);
      return;
    }
    delay_us(1000);
  }
}
PROGRAM("mem-follow", mem_follow);

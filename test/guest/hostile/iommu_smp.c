/* All CPUs at an IOMMU and the disk behind it: requests good and bad, mappings and domains that go
 * while the disk works by them, resets of both. The second disk is beside the IOMMU. */
#include "crowd.h"
#include "iommu.h"

#define ARENA 0x400000ul
#define PAGE 4096ul
#define DOMAINS 3
#define REQUESTS 16
#define RING 16

static struct iommu iommu;
static struct block disk;
static u8 *arena;
static struct iommu_request *requests;
static volatile u8 *answers;
static struct vring_desc *desc;
static volatile struct vring_avail *avail;
static volatile struct vring_used *used;

/* Where a mapping may lead: into the arena, since the disk writes there, or where no memory is. */
static u64 some_address(u32 *state) {
  u64 page = crowd_random(state) % (ARENA / PAGE) * PAGE;
  return crowd_random(state) % 8 == 0 ? hole_address() + page : (u64)arena + page;
}

static void some_mapping(u32 *state, struct iommu_request *r) {
  u64 address = some_address(state), pages = 1 + crowd_random(state) % 16;
  if (crowd_random(state) % 4 == 0) address = (u64)arena;
  /* To itself mostly, so that the disk finds what it is told of. */
  r->map.first = crowd_random(state) % 4 == 0 ? address + 64 * PAGE : address;
  if (r->map.first == (u64)arena) pages = ARENA / PAGE;
  r->map.last = r->map.first + pages * PAGE - 1;
  r->map.address = address;
  r->map.flags = crowd_random(state) % 4 == 0 ? crowd_random(state) % 4 : IOMMU_READ | IOMMU_WRITE;
}

/* The disk, mostly; or one that comes to segment 1, or nobody. */
static u32 some_endpoint(u32 *state) {
  u32 any = crowd_random(state);
  if (any % 8 == 0) return any / 8 % 256;
  return any % 4 == 1 ? 1u << 16 | iommu_endpoint(any / 4 % 8) : iommu_endpoint(disk.device.slot);
}

static void some_request(u32 *state, struct iommu_request *r) {
  static const u8 types[] = {IOMMU_ATTACH, IOMMU_MAP,    IOMMU_MAP,
                             IOMMU_UNMAP,  IOMMU_DETACH, IOMMU_PROBE};
  r->type = crowd_random(state) % 16 == 0 ? (u8)crowd_random(state)
                                          : types[crowd_random(state) % ARRAY_SIZE(types)];
  u32 domain = crowd_random(state) % DOMAINS;
  u32 endpoint = some_endpoint(state);
  switch (r->type) {
    case IOMMU_MAP:
      some_mapping(state, r);
      r->map.domain = domain;
      return;
    case IOMMU_UNMAP:
      r->unmap.domain = domain;
      r->unmap.first = crowd_random(state) % 4 == 0 ? 0 : some_address(state);
      r->unmap.last = r->unmap.first == 0 ? ~0ul : r->unmap.first + 16 * PAGE - 1;
      r->unmap.reserved = 0;
      return;
    case IOMMU_PROBE:
      memset(&r->probe, 0, sizeof(r->probe));
      r->probe.endpoint = endpoint;
      return;
    default:
      r->attach.domain = domain;
      r->attach.endpoint = endpoint;
      r->attach.flags = crowd_random(state) % 16 == 0 ? 1 : 0;
      r->attach.reserved = 0;
  }
}

static void asker(u32 *state) {
  for (u32 i = 0; i < REQUESTS / 4; i++) {
    u16 at = (u16)(crowd_random(state) % REQUESTS), d = (u16)(2 * at);
    some_request(state, &requests[at]);
    u32 length = crowd_random(state) % 16 == 0 ? crowd_random(state) % 80 : 80;
    u32 room = crowd_random(state) % 16 == 0 ? crowd_random(state) % 80 : 80;
    desc[d] = (struct vring_desc){(u64)&requests[at], length, DESC_NEXT, (u16)(d + 1)};
    desc[d + 1] = (struct vring_desc){(u64)answers + 128 * at, room, DESC_WRITE, 0};
    avail->ring[(avail->index + i) % iommu.requests.size] = d;
  }
  avail->index = (u16)(avail->index + REQUESTS / 4);
  write16(iommu.requests.doorbell, 0);
}

/* Requests change while the device reads them, and so does what is not in any domain. */
static void meddler(u32 *state) {
  some_request(state, &requests[crowd_random(state) % REQUESTS]);
  write8(iommu.device.config + IOMMU_CONFIG_BYPASS, (u8)(crowd_random(state) % 3));
  read32(iommu.device.config + crowd_random(state) % 40);
  if (crowd_random(state) % 64 != 0) return;
  volatile u8 *common = iommu.device.common;
  write8(common + COMMON_DEVICE_STATUS, 0);
  avail->index = 0;
  used->index = 0;
  static const u8 life[] = {ACKNOWLEDGE, ACKNOWLEDGE | DRIVER};
  for (u32 i = 0; i < ARRAY_SIZE(life); i++) write8(common + COMMON_DEVICE_STATUS, life[i]);
  virtio_accept(&iommu.device, F_VERSION_1);
  write8(common + COMMON_DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
  write16(common + COMMON_QUEUE_SELECT, 0);
  write16(common + COMMON_QUEUE_SIZE, iommu.requests.size);
  write32(common + COMMON_QUEUE_DESC, (u32)(u64)desc);
  write32(common + COMMON_QUEUE_DRIVER, (u32)(u64)avail);
  write32(common + COMMON_QUEUE_DEVICE, (u32)(u64)used);
  write16(common + COMMON_QUEUE_ENABLE, 1);
  virtio_driver_ok(&iommu.device);
}

/* The disk's rings and requests are in the arena; reads of 64 KiB, so that many are in flight. */
static void worker(u32 *state) {
  volatile u8 *common = disk.device.common;
  struct vring_desc *table = (struct vring_desc *)arena;
  volatile struct vring_avail *ring = (volatile struct vring_avail *)(arena + PAGE);
  struct block_header *header = (struct block_header *)(arena + 3 * PAGE);
  static const u8 life[] = {0, ACKNOWLEDGE, ACKNOWLEDGE | DRIVER};
  for (u32 i = 0; i < ARRAY_SIZE(life); i++) write8(common + COMMON_DEVICE_STATUS, life[i]);
  for (u16 i = 0; i + 2 < RING; i = (u16)(i + 3)) {
    u64 buffer = (u64)arena + (16 + crowd_random(state) % 512) * PAGE;
    table[i] = (struct vring_desc){(u64)header, 16, DESC_NEXT, (u16)(i + 1)};
    table[i + 1] = (struct vring_desc){buffer, 65536, DESC_NEXT | DESC_WRITE, (u16)(i + 2)};
    table[i + 2] = (struct vring_desc){(u64)(header + 1), 1, DESC_WRITE, 0};
    ring->ring[i / 3] = i;
  }
  ring->index = RING / 3;
  virtio_accept(&disk.device, F_VERSION_1);
  write8(common + COMMON_DEVICE_STATUS, ACKNOWLEDGE | DRIVER | FEATURES_OK);
  write16(common + COMMON_QUEUE_SELECT, 0);
  write16(common + COMMON_QUEUE_SIZE, RING);
  write32(common + COMMON_QUEUE_DESC, (u32)(u64)table);
  write32(common + COMMON_QUEUE_DRIVER, (u32)(u64)ring);
  write32(common + COMMON_QUEUE_DEVICE, (u32)(u64)(arena + 2 * PAGE));
  write16(common + COMMON_QUEUE_ENABLE, 1);
  virtio_driver_ok(&disk.device);
  for (u32 i = 0; i < 8; i++) write16(disk.queue.doorbell, 0);
}

static void (*const roles[])(u32 *) = {asker, worker, meddler, asker};

static void assault(u32 index, u32 *state) { roles[index % ARRAY_SIZE(roles)](state); }

/* Behind an IOMMU that has been reset, by addresses that only it knows. */
static void expect_recovery(void) {
  const u64 far = 1ul << 40;
  u8 *data = alloc(SECTOR);
  iommu_reopen(&iommu);
  u8 attached = iommu_attach(&iommu, DOMAINS, iommu_endpoint(disk.device.slot));
  u8 mapped = iommu_map(&iommu, DOMAINS, 0, low_memory_end() - 1, 0, IOMMU_READ | IOMMU_WRITE);
  u8 again =
      iommu_map(&iommu, DOMAINS, far, far + low_memory_end() - 1, 0, IOMMU_READ | IOMMU_WRITE);
  block_reopen(&disk);
  u8 read = block_request(&disk, BLOCK_IN, 1, data, SECTOR);
  u8 far_read = block_request(&disk, BLOCK_IN, 1, data + far, SECTOR);
  check("iommu-fight",
        attached == IOMMU_OK && mapped == IOMMU_OK && again == IOMMU_OK && read == BLOCK_OK &&
            far_read == BLOCK_OK,
        "attach %u map %u, %u disk 0x%x, 0x%x", attached, mapped, again, read, far_read);
}

static void fight(void) {
  if (!check("iommu-device", iommu_open(&iommu), "none")) return;
  victim_open(&disk, 0);
  witness_open(1);
  arena = alloc(ARENA);
  requests = alloc(REQUESTS * sizeof(*requests));
  answers = alloc(REQUESTS * 128);
  desc = (struct vring_desc *)iommu.requests.desc;
  avail = iommu.requests.avail;
  used = iommu.requests.used;
  if (crowd("iommu", assault, witness_goes_on) == 0) return;
  witness_report("iommu-witness");
  expect_recovery();
}
PROGRAM("hostile-iommu-smp", fight);

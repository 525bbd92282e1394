/*
 * Maps the guest's memory for a device behind an IOMMU (virtio 1.2 §5.13), each address to itself.
 * Option:
 *
 *   iommu=BYTES   of each mapping, multiple of 4096; without it there is none
 */
#include "iommu.h"

#include "measure.h"

#define IOMMU_MAP_UNMAP (1ul << 2)
#define REQUEST_QUEUE 0
#define BATCH 64
#define TIMEOUT_US 5000000
#define DOMAIN 1

enum { ATTACH = 1, MAP = 3 };
enum { MAY_READ = 1, MAY_WRITE = 2 };

/* Requests (§5.13.6), with the tail that the device writes. */
struct attach {
  u8 type, reserved[3];
  u32 domain, endpoint, flags, reserved2;
};
struct __attribute__((packed)) map {
  u8 type, reserved[3];
  u32 domain;
  u64 first, last, address;
  u32 flags;
};
struct tail {
  u8 status, reserved[3];
};

static struct virtqueue requests;

/* Waits for the answers to what is in the queue. */
static bool answered(u32 count, const volatile struct tail *tails) {
  virtqueue_kick(&requests);
  for (u32 i = 0; i < count; i++) {
    u32 id, length;
    if (!virtqueue_wait(&requests, &id, &length, TIMEOUT_US)) return false;
  }
  for (u32 i = 0; i < count; i++)
    if (tails[i].status != 0) return false;
  return true;
}

static void ask(const void *request, u32 size, struct tail *tail) {
  struct buffer buffers[] = {{request, size}, {tail, sizeof *tail}};
  tail->status = 0xff;
  virtqueue_add(&requests, buffers, 1, 1);
}

static bool attach_endpoint(u32 endpoint) {
  struct attach *request = alloc(sizeof *request);
  struct tail *tail = alloc(sizeof *tail);
  *request = (struct attach){.type = ATTACH, .domain = DOMAIN, .endpoint = endpoint};
  ask(request, sizeof *request, tail);
  return answered(1, tail);
}

static bool map_memory(u64 piece) {
  struct map *batch = alloc(BATCH * sizeof *batch);
  struct tail *tails = alloc(BATCH * sizeof *tails);
  for (u64 at = 0, end = low_memory_end(); at < end;) {
    u32 count = 0;
    for (; count < BATCH && at < end; count++, at += piece) {
      batch[count] = (struct map){.type = MAP,
                                  .domain = DOMAIN,
                                  .first = at,
                                  .last = MIN(at + piece, end) - 1,
                                  .address = at,
                                  .flags = MAY_READ | MAY_WRITE};
      ask(&batch[count], sizeof *batch, &tails[count]);
    }
    if (!answered(count, tails)) return false;
  }
  return true;
}

bool translate(const struct virtio *device) {
  u64 piece = option_number("iommu", 0);
  if (piece == 0) return true;
  struct virtio iommu;
  if (!virtio_find(&iommu, VIRTIO_IOMMU, 0)) return true;
  if (!virtio_start(&iommu, IOMMU_MAP_UNMAP)) return not_ok("iommu", "does not start"), false;
  virtqueue_init(&requests, &iommu, REQUEST_QUEUE, 0, NO_VECTOR);
  virtio_driver_ok(&iommu);
  /* An endpoint's number is its bus, device and function, as the VIOT has it. */
  bool done = attach_endpoint(device->slot << 3) && map_memory(piece);
  return done || (not_ok("iommu", "the device is not translated for"), false);
}

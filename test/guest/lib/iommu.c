#include "iommu.h"

#define TIMEOUT_US 20000000
#define UNTOUCHED 0xee

void iommu_reopen(struct iommu *m) {
  virtio_start(&m->device, F_EVENT_IDX);
  virtqueue_init(&m->requests, &m->device, 0, 0, NO_VECTOR);
  virtqueue_init(&m->events, &m->device, 1, 0, NO_VECTOR);
  virtio_driver_ok(&m->device);
}

bool iommu_open(struct iommu *m) {
  if (!virtio_find(&m->device, VIRTIO_IOMMU, 0)) return false;
  m->request = alloc(4096);
  m->answer = alloc(4096);
  iommu_reopen(m);
  return true;
}

u8 iommu_send(struct iommu *m, u32 length, u32 room) {
  struct buffer buffers[] = {{m->request, length}, {m->answer, room}};
  u32 id, used = 0, out = length == 0 ? 0 : 1, in = room == 0 ? 0 : 1;
  if (room >= IOMMU_TAIL) m->answer[room - IOMMU_TAIL] = UNTOUCHED;
  if (virtqueue_add(&m->requests, &buffers[1 - out], out, in) < 0) return IOMMU_NO_ANSWER;
  virtqueue_kick(&m->requests);
  if (!virtqueue_wait(&m->requests, &id, &used, TIMEOUT_US)) return IOMMU_NO_ANSWER;
  return used < IOMMU_TAIL ? IOMMU_NO_ANSWER : m->answer[used - IOMMU_TAIL];
}

static void begin(struct iommu *m, u8 type) {
  memset(m->request, 0, sizeof(*m->request));
  m->request->type = type;
}

static u8 place(struct iommu *m, u8 type, u32 domain, u32 endpoint) {
  begin(m, type);
  m->request->attach.domain = domain;
  m->request->attach.endpoint = endpoint;
  return iommu_send(m, IOMMU_SIZE(attach), IOMMU_TAIL);
}

u8 iommu_attach(struct iommu *m, u32 domain, u32 endpoint) {
  return place(m, IOMMU_ATTACH, domain, endpoint);
}

u8 iommu_detach(struct iommu *m, u32 domain, u32 endpoint) {
  return place(m, IOMMU_DETACH, domain, endpoint);
}

u8 iommu_map(struct iommu *m, u32 domain, u64 first, u64 last, u64 address, u32 flags) {
  begin(m, IOMMU_MAP);
  m->request->map.domain = domain;
  m->request->map.first = first;
  m->request->map.last = last;
  m->request->map.address = address;
  m->request->map.flags = flags;
  return iommu_send(m, IOMMU_SIZE(map), IOMMU_TAIL);
}

u8 iommu_unmap(struct iommu *m, u32 domain, u64 first, u64 last) {
  begin(m, IOMMU_UNMAP);
  m->request->unmap.domain = domain;
  m->request->unmap.first = first;
  m->request->unmap.last = last;
  return iommu_send(m, IOMMU_SIZE(unmap), IOMMU_TAIL);
}

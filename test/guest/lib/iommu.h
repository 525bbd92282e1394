/* A virtio-iommu driver (virtio 1.2 §5.13): one request at a time. */
#pragma once
#include "virtio.h"

/* Requests and answers (§5.13.6) */
enum { IOMMU_ATTACH = 1, IOMMU_DETACH, IOMMU_MAP, IOMMU_UNMAP, IOMMU_PROBE };
enum {
  IOMMU_OK = 0,
  IOMMU_UNSUPPORTED = 2,
  IOMMU_DEVICE_ERROR = 3,
  IOMMU_INVALID = 4,
  IOMMU_RANGE = 5,
  IOMMU_NO_ENTRY = 6,
  IOMMU_NO_MEMORY = 8,
  IOMMU_NO_ANSWER = 0xff
};
#define IOMMU_READ 1
#define IOMMU_WRITE 2

/* Device configuration (§5.13.4) */
#define IOMMU_CONFIG_PROBE_SIZE 32
#define IOMMU_CONFIG_BYPASS 36

/* All of them, by their first member. */
struct iommu_request {
  u8 type, reserved[3];
  union {
    struct {
      u32 domain, endpoint, flags, reserved;
    } attach; /* and DETACH */
    struct {
      u32 domain;
      u64 first, last, address;
      u32 flags;
    } __attribute__((packed)) map;
    struct {
      u32 domain;
      u64 first, last;
      u32 reserved;
    } __attribute__((packed)) unmap;
    struct {
      u32 endpoint;
      u8 reserved[64];
    } probe;
  };
};
#define IOMMU_SIZE(operands) (4 + sizeof(((struct iommu_request *)0)->operands))
#define IOMMU_TAIL 4

struct iommu {
  struct virtio device;
  struct virtqueue requests, events;
  struct iommu_request *request;
  volatile u8 *answer; /* a page */
};

/* How the IOMMU calls the function in a slot of segment 0. */
static inline u32 iommu_endpoint(u32 slot) { return slot << 3; }

/* Finds the device and starts it; false if there is none. */
bool iommu_open(struct iommu *m);
/* Resets it and starts it again, with fresh rings. */
void iommu_reopen(struct iommu *m);
/* Sends the first `length` bytes of m->request with `room` bytes for the answer, of which the last
 * four are the status; that, or IOMMU_NO_ANSWER if the device wrote none, or gave nothing back in
 * time. */
u8 iommu_send(struct iommu *m, u32 length, u32 room);
u8 iommu_attach(struct iommu *m, u32 domain, u32 endpoint);
u8 iommu_detach(struct iommu *m, u32 domain, u32 endpoint);
u8 iommu_map(struct iommu *m, u32 domain, u64 first, u64 last, u64 address, u32 flags);
u8 iommu_unmap(struct iommu *m, u32 domain, u64 first, u64 last);

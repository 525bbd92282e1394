/* Modern virtio over PCI with split queues (virtio 1.2 §2.7, §4.1). */
#pragma once
#include "guest.h"

#define VIRTIO_NET 1
#define VIRTIO_BLOCK 2
#define VIRTIO_CONSOLE 3
#define VIRTIO_RNG 4
#define VIRTIO_BALLOON 5
#define VIRTIO_RTC 17
#define VIRTIO_SOCKET 19
#define VIRTIO_IOMMU 23
#define VIRTIO_MEM 24
#define VIRTIO_PMEM 27
#define VIRTIO_WATCHDOG 35

/* Device status (§2.1) */
#define ACKNOWLEDGE 1
#define DRIVER 2
#define DRIVER_OK 4
#define FEATURES_OK 8
#define NEEDS_RESET 64
#define FAILED 128

/* Features (§6) */
#define F_INDIRECT_DESC (1ul << 28)
#define F_EVENT_IDX (1ul << 29)
#define F_VERSION_1 (1ul << 32)
#define F_ACCESS_PLATFORM (1ul << 33)

/* Common configuration (§4.1.4.3) */
#define COMMON_DEVICE_FEATURE_SELECT 0x00
#define COMMON_DEVICE_FEATURE 0x04
#define COMMON_DRIVER_FEATURE_SELECT 0x08
#define COMMON_DRIVER_FEATURE 0x0c
#define COMMON_CONFIG_MSIX_VECTOR 0x10
#define COMMON_NUM_QUEUES 0x12
#define COMMON_DEVICE_STATUS 0x14
#define COMMON_CONFIG_GENERATION 0x15
#define COMMON_QUEUE_SELECT 0x16
#define COMMON_QUEUE_SIZE 0x18
#define COMMON_QUEUE_MSIX_VECTOR 0x1a
#define COMMON_QUEUE_ENABLE 0x1c
#define COMMON_QUEUE_NOTIFY_OFF 0x1e
#define COMMON_QUEUE_DESC 0x20
#define COMMON_QUEUE_DRIVER 0x28
#define COMMON_QUEUE_DEVICE 0x30

#define NO_VECTOR 0xffff

/* Descriptor flags (§2.7.5) */
#define DESC_NEXT 1
#define DESC_WRITE 2
#define DESC_INDIRECT 4

struct vring_desc {
  u64 address;
  u32 length;
  u16 flags, next;
};
struct vring_avail {
  u16 flags, index, ring[];
};
struct vring_used_element {
  u32 id, length;
};
struct vring_used {
  u16 flags, index;
  struct vring_used_element ring[];
};

struct virtio {
  u32 slot, id;
  volatile u8 *common, *isr, *config, *notify;
  u32 notify_multiplier, config_length;
  volatile u8 *msix; /* the table */
  u32 msix_vectors;
  u8 msix_capability;
  u64 features; /* negotiated */
};

struct virtqueue {
  struct virtio *device;
  u16 index, size;
  volatile struct vring_desc *desc;
  volatile struct vring_avail *avail;
  volatile struct vring_used *used;
  volatile u8 *doorbell;
  u16 free_head, free_count, seen_used, kicked;
  u16 *free_next;
  u32 kicks;
};

struct buffer {
  const volatile void *address;
  u32 length;
};

/* The virtio function in this slot, BARs mapped; false if there is none. */
bool virtio_open(struct virtio *device, u32 slot);
/* The nth (from 0) function with this virtio id. */
bool virtio_find(struct virtio *device, u32 id, u32 nth);
void virtio_reset(struct virtio *device);
u8 virtio_status(struct virtio *device);
void virtio_set_status(struct virtio *device, u8 status);
u64 virtio_offered(struct virtio *device);
void virtio_accept(struct virtio *device, u64 features);
/* Reset to FEATURES_OK with offered & wanted (VERSION_1 included); false if the device refuses. */
bool virtio_start(struct virtio *device, u64 wanted);
void virtio_driver_ok(struct virtio *device);
u16 virtio_queue_size(struct virtio *device, u16 index);
/* Allocates and enables a queue of `size` entries (0: what the device has). vector: MSI-X entry or
 * NO_VECTOR. */
void virtqueue_init(struct virtqueue *queue, struct virtio *device, u16 index, u16 size,
                    u16 vector);
void msix_set(struct virtio *device, u32 entry, u64 address, u32 data, bool masked);
/* Routes entry to an interrupt vector of this CPU and turns MSI-X on. */
void msix_route(struct virtio *device, u32 entry, u8 vector);

/* Adds a chain of `out` readable and then `in` writable buffers; its head, or -1 if the queue is
 * full. */
int virtqueue_add(struct virtqueue *queue, const struct buffer *buffers, u32 out, u32 in);
/* The same by an indirect table that the caller keeps. */
int virtqueue_add_indirect(struct virtqueue *queue, struct vring_desc *table,
                           const struct buffer *buffers, u32 out, u32 in);
/* Rings the doorbell if the device wants it (flags or EVENT_IDX). */
void virtqueue_kick(struct virtqueue *queue);
void virtqueue_notify(struct virtqueue *queue); /* always */
/* One used element, if there is one, its chain freed. */
bool virtqueue_poll(struct virtqueue *queue, u32 *id, u32 *length);
bool virtqueue_wait(struct virtqueue *queue, u32 *id, u32 *length, u64 timeout_us);
/* With EVENT_IDX: asks for an interrupt at the next used element; otherwise clears or sets
 * NO_INTERRUPT. */
void virtqueue_interrupts(struct virtqueue *queue, bool on);
/* Puts a head on the available ring as it is: for hostile guests. */
void virtqueue_push(struct virtqueue *queue, u16 head);

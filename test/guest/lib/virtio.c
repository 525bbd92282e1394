#include "virtio.h"

#include "pci.h"

#define VIRTIO_VENDOR 0x1af4
#define VIRTIO_MODERN 0x1040 /* the PCI device id of virtio id 0 (§4.1.2.1) */
#define RESET_TIMEOUT_US 1000000

/* Capability types (§4.1.4) */
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4 };

static void map_capability(struct virtio *device, u8 at) {
  volatile u8 *config = pci_config(device->slot);
  u64 bar = pci_bar(device->slot, read8(config + at + 4));
  u32 offset = read32(config + at + 8), length = read32(config + at + 12);
  volatile u8 *address = map_physical(bar + offset, length);
  switch (read8(config + at + 3)) {
    case CAP_COMMON:
      device->common = address;
      break;
    case CAP_ISR:
      device->isr = address;
      break;
    case CAP_DEVICE:
      device->config = address;
      device->config_length = length;
      break;
    case CAP_NOTIFY:
      device->notify = address;
      device->notify_multiplier = read32(config + at + 16);
      break;
  }
}

bool virtio_open(struct virtio *device, u32 slot) {
  u32 function = pci_id(slot);
  if ((function & 0xffff) != VIRTIO_VENDOR || function >> 16 < VIRTIO_MODERN) return false;
  memset(device, 0, sizeof(*device));
  device->slot = slot;
  device->id = (function >> 16) - VIRTIO_MODERN;
  pci_command(slot, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER, 0);
  for (u8 at = 0; (at = pci_capability(slot, PCI_CAP_VENDOR, at)) != 0;) {
    u8 type = read8(pci_config(slot) + at + 3);
    if (type >= CAP_COMMON && type <= CAP_DEVICE) map_capability(device, at);
  }
  device->msix_capability = pci_capability(slot, PCI_CAP_MSIX, 0);
  if (device->msix_capability != 0) {
    volatile u8 *cap = pci_config(slot) + device->msix_capability;
    u32 table = read32(cap + 4);
    device->msix_vectors = (read16(cap + MSIX_CONTROL) & 0x7ff) + 1u;
    device->msix =
        map_physical(pci_bar(slot, table & 7) + (table & ~7u), device->msix_vectors * 16);
  }
  return device->common != NULL && device->notify != NULL;
}

bool virtio_find(struct virtio *device, u32 id, u32 nth) {
  u32 wanted = (VIRTIO_MODERN + id) << 16 | VIRTIO_VENDOR;
  for (u32 slot = 0; slot < PCI_SLOTS; slot++) {
    if (pci_id(slot) == wanted && nth-- == 0) return virtio_open(device, slot);
  }
  return false;
}

u8 virtio_status(struct virtio *device) { return read8(device->common + COMMON_DEVICE_STATUS); }

void virtio_set_status(struct virtio *device, u8 status) {
  write8(device->common + COMMON_DEVICE_STATUS, status);
}

void virtio_reset(struct virtio *device) {
  virtio_set_status(device, 0);
  /* §4.1.4.3.1: the driver waits until a read of the status gives 0. */
  for (u64 end = now_us() + RESET_TIMEOUT_US; virtio_status(device) != 0;) {
    if (now_us() > end) {
      not_ok("virtio-reset", "status 0x%x a second after reset", virtio_status(device));
      return;
    }
  }
}

u64 virtio_offered(struct virtio *device) {
  write32(device->common + COMMON_DEVICE_FEATURE_SELECT, 0);
  u64 features = read32(device->common + COMMON_DEVICE_FEATURE);
  write32(device->common + COMMON_DEVICE_FEATURE_SELECT, 1);
  return features | (u64)read32(device->common + COMMON_DEVICE_FEATURE) << 32;
}

void virtio_accept(struct virtio *device, u64 features) {
  write32(device->common + COMMON_DRIVER_FEATURE_SELECT, 0);
  write32(device->common + COMMON_DRIVER_FEATURE, (u32)features);
  write32(device->common + COMMON_DRIVER_FEATURE_SELECT, 1);
  write32(device->common + COMMON_DRIVER_FEATURE, (u32)(features >> 32));
  device->features = features;
}

bool virtio_start(struct virtio *device, u64 wanted) {
  virtio_reset(device);
  virtio_set_status(device, ACKNOWLEDGE);
  virtio_set_status(device, ACKNOWLEDGE | DRIVER);
  virtio_accept(device, virtio_offered(device) & (wanted | F_VERSION_1));
  virtio_set_status(device, ACKNOWLEDGE | DRIVER | FEATURES_OK);
  return (virtio_status(device) & FEATURES_OK) != 0;
}

void virtio_driver_ok(struct virtio *device) {
  virtio_set_status(device, ACKNOWLEDGE | DRIVER | FEATURES_OK | DRIVER_OK);
}

u16 virtio_queue_size(struct virtio *device, u16 index) {
  write16(device->common + COMMON_QUEUE_SELECT, index);
  return read16(device->common + COMMON_QUEUE_SIZE);
}

void msix_set(struct virtio *device, u32 entry, u64 address, u32 data, bool masked) {
  volatile u8 *at = device->msix + entry * 16;
  write32(at + 12, 1);
  write32(at, (u32)address);
  write32(at + 4, (u32)(address >> 32));
  write32(at + 8, data);
  if (!masked) write32(at + 12, 0);
}

void msix_route(struct virtio *device, u32 entry, u8 vector) {
  msix_set(device, entry, 0xfee00000ul | lapic_id() << 12, vector, false);
  write16(pci_config(device->slot) + device->msix_capability + MSIX_CONTROL, MSIX_ENABLE);
}

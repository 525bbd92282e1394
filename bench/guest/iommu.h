/* An IOMMU in front of the device that is measured, where there is one. */
#pragma once
#include "virtio.h"

/* Before the device's queues are there. Machines without an IOMMU are left as they are. */
bool translate(const struct virtio *device);

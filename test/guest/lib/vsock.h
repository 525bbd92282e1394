/* A virtio-vsock driver (virtio 1.2 §5.10): packets, one at a time. */
#pragma once
#include "virtio.h"

#define VSOCK_HOST 2

enum {
  VSOCK_REQUEST = 1,
  VSOCK_RESPONSE,
  VSOCK_RST,
  VSOCK_SHUTDOWN,
  VSOCK_RW,
  VSOCK_CREDIT_UPDATE,
  VSOCK_CREDIT_REQUEST
};
/* Flags of VSOCK_SHUTDOWN: what the sender will not do any more. */
#define VSOCK_NO_RECEIVE 1
#define VSOCK_NO_SEND 2

struct vsock_header {
  u64 source_cid, destination_cid;
  u32 source_port, destination_port, length;
  u16 type, operation;
  u32 flags, buffer_size, forwarded;
} __attribute__((packed));

#define VSOCK_BUFFER 8192
#define VSOCK_BUFFERS 64
#define VSOCK_MAX_DATA 32768

struct vsock {
  struct virtio device;
  struct virtqueue receive, transmit, events;
  u64 cid;
  u8 *buffers; /* by head of the receive queue */
  struct vsock_header *header;
  u8 *data; /* of the packet being sent, VSOCK_MAX_DATA bytes */
};

/* Finds the device and starts it with all its queues; false if there is none. */
bool vsock_open(struct vsock *v, u64 features);
/* Sends a packet with v->data[0..length), and waits until the device has taken it. */
bool vsock_send(struct vsock *v, const struct vsock_header *h, u32 length);
/* A packet that has arrived, or NULL. Valid until vsock_release, which has to come. */
const struct vsock_header *vsock_receive(struct vsock *v);
void vsock_release(struct vsock *v, const struct vsock_header *h);

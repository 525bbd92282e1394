#include "vsock.h"

static void post(struct vsock *v, u8 *buffer) {
  struct buffer one = {buffer, VSOCK_BUFFER};
  virtqueue_add(&v->receive, &one, 0, 1);
  virtqueue_kick(&v->receive);
}

bool vsock_open(struct vsock *v, u64 features) {
  if (!virtio_find(&v->device, VIRTIO_SOCKET, 0) || !virtio_start(&v->device, features))
    return false;
  virtqueue_init(&v->receive, &v->device, 0, 0, NO_VECTOR);
  virtqueue_init(&v->transmit, &v->device, 1, 0, NO_VECTOR);
  virtqueue_init(&v->events, &v->device, 2, 0, NO_VECTOR);
  virtio_driver_ok(&v->device);
  v->cid = read32(v->device.config) | (u64)read32(v->device.config + 4) << 32;
  v->buffers = alloc(VSOCK_BUFFERS * VSOCK_BUFFER);
  v->header = alloc(sizeof(*v->header));
  v->data = alloc(VSOCK_MAX_DATA);
  for (u32 i = 0; i < VSOCK_BUFFERS; i++) post(v, v->buffers + i * VSOCK_BUFFER);
  return true;
}

bool vsock_send(struct vsock *v, const struct vsock_header *h, u32 length) {
  *v->header = *h;
  v->header->length = length;
  struct buffer buffers[] = {{v->header, sizeof(*v->header)}, {v->data, length}};
  if (virtqueue_add(&v->transmit, buffers, length == 0 ? 1 : 2, 0) < 0) return false;
  virtqueue_kick(&v->transmit);
  u32 id, used;
  return virtqueue_wait(&v->transmit, &id, &used, 5000000);
}

const struct vsock_header *vsock_receive(struct vsock *v) {
  u32 id, used;
  if (!virtqueue_poll(&v->receive, &id, &used)) return NULL;
  /* The chain is free again, but its descriptor still says where the buffer is. */
  return (const struct vsock_header *)v->receive.desc[id].address;
}

void vsock_release(struct vsock *v, const struct vsock_header *h) { post(v, (u8 *)h); }

#include "net.h"

#define TIMEOUT_US 5000000

static void post(struct virtqueue *q, volatile void *address) {
  struct buffer one = {address, NET_BUFFER};
  virtqueue_add(q, &one, 0, 1);
}

static void open_pair(struct net *n, u16 index, bool fill) {
  struct net_pair *p = &n->pair[index];
  virtqueue_init(&p->receive, &n->device, (u16)(2 * index), 0, NO_VECTOR);
  virtqueue_init(&p->transmit, &n->device, (u16)(2 * index + 1), 0, NO_VECTOR);
  p->buffers = alloc(NET_BUFFERS * NET_BUFFER);
  p->packet = alloc(sizeof(struct net_header) + NET_MAX_FRAME);
  for (u32 i = 0; fill && i < NET_BUFFERS; i++) post(&p->receive, p->buffers + i * NET_BUFFER);
}

bool net_open(struct net *n, u64 features, u32 pairs) {
  if (!virtio_find(&n->device, VIRTIO_NET, 0) || !virtio_start(&n->device, features)) return false;
  bool many = (n->device.features & NET_F_MQ) != 0;
  u32 there = many ? read16(n->device.config + NET_CONFIG_PAIRS) : 1;
  n->pairs = MIN(MIN(pairs, there), (u32)NET_MAX_PAIRS);
  for (u32 i = 0; i < n->pairs; i++) open_pair(n, (u16)i, true);
  n->command = alloc(4096);
  /* The control queue comes after all pairs that the device has (§5.1.2). */
  bool control = (n->device.features & NET_F_CTRL_VQ) != 0;
  if (control) virtqueue_init(&n->control, &n->device, (u16)(2 * there), 0, NO_VECTOR);
  virtio_driver_ok(&n->device);
  for (u32 i = 0; i < n->pairs; i++) virtqueue_notify(&n->pair[i].receive);
  u16 count = (u16)n->pairs;
  return n->pairs == 1 || net_command(n, 4, 0, &count, sizeof(count));
}

bool net_command(struct net *n, u8 command_class, u8 command, const void *data, u32 length) {
  volatile u8 *answer = n->command + 2048;
  n->command[0] = command_class;
  n->command[1] = command;
  memcpy(n->command + 2, data, length);
  *answer = 0xee;
  struct buffer buffers[] = {{n->command, 2 + length}, {answer, 1}};
  if (virtqueue_add(&n->control, buffers, 1, 1) < 0) return false;
  virtqueue_kick(&n->control);
  u32 id, used;
  return virtqueue_wait(&n->control, &id, &used, TIMEOUT_US) && *answer == 0;
}

u32 net_receive(struct net_pair *p, u8 *packet) {
  u32 id, used, length = 0;
  if (!virtqueue_poll(&p->receive, &id, &used)) return 0;
  u16 buffers = 1;
  for (u16 i = 0; i < buffers; i++) {
    /* All of a frame's buffers are used at once (§5.1.6.4). */
    if (i != 0 && !virtqueue_poll(&p->receive, &id, &used)) return 0;
    /* The chain is free again, but its descriptor still says where the buffer is. */
    volatile u8 *buffer = (volatile u8 *)p->receive.desc[id].address;
    if (i == 0) buffers = ((const struct net_header *)buffer)->buffers;
    if (used > NET_BUFFER || length + used > sizeof(struct net_header) + NET_MAX_FRAME) return 0;
    memcpy(packet + length, (const u8 *)buffer, used);
    length += used;
    post(&p->receive, buffer);
  }
  virtqueue_kick(&p->receive);
  return length;
}

bool net_send(struct net_pair *p, u32 length) {
  struct buffer one = {p->packet, length};
  if (virtqueue_add(&p->transmit, &one, 1, 0) < 0) return false;
  virtqueue_kick(&p->transmit);
  u32 id, used;
  return virtqueue_wait(&p->transmit, &id, &used, TIMEOUT_US);
}

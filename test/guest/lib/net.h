/* A virtio-net driver (virtio 1.2 §5.1): whole frames, one at a time for each pair of queues. */
#pragma once
#include "virtio.h"

#define NET_F_CSUM (1ul << 0)
#define NET_F_GUEST_CSUM (1ul << 1)
#define NET_F_GUEST_OFFLOADS (1ul << 2)
#define NET_F_MTU (1ul << 3)
#define NET_F_MAC (1ul << 5)
#define NET_F_GUEST_TSO4 (1ul << 7)
#define NET_F_HOST_TSO4 (1ul << 11)
#define NET_F_MRG_RXBUF (1ul << 15)
#define NET_F_STATUS (1ul << 16)
#define NET_F_CTRL_VQ (1ul << 17)
#define NET_F_CTRL_RX (1ul << 18)
#define NET_F_ANNOUNCE (1ul << 21)
#define NET_F_MQ (1ul << 22)
#define NET_F_CTRL_MAC (1ul << 23)

/* Device configuration (§5.1.4) */
#define NET_CONFIG_MAC 0
#define NET_CONFIG_STATUS 6
#define NET_CONFIG_PAIRS 8
#define NET_CONFIG_MTU 10

#define NET_LINK_UP 1

struct net_header {
  u8 flags, gso_type;
  u16 header_length, gso_size, csum_start, csum_offset, buffers;
};

#define NET_MAX_PAIRS 4
#define NET_MAX_FRAME 65562
#define NET_BUFFER 2048
#define NET_BUFFERS 128 /* on each receive queue */

struct net_pair {
  struct virtqueue receive, transmit;
  u8 *buffers;
  u8 *packet; /* a header and a frame, to be sent */
};

struct net {
  struct virtio device;
  u32 pairs; /* in use */
  struct net_pair pair[NET_MAX_PAIRS];
  struct virtqueue control;
  u8 *command;
};

/* Finds the device and starts it with as many pairs, up to `pairs`, as it has; false if there is
 * none. */
bool net_open(struct net *n, u64 features, u32 pairs);
/* Carries out a control command; false unless the device acknowledges it. */
bool net_command(struct net *n, u8 command_class, u8 command, const void *data, u32 length);
/* The next frame of a pair, copied to `packet` with its header; its length with the header, 0 if
 * there is none. */
u32 net_receive(struct net_pair *p, u8 *packet);
/* Sends p->packet[0..length); false if the device does not take it in time. */
bool net_send(struct net_pair *p, u32 length);

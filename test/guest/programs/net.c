/*
 * net-echo: a host at 192.0.2.2 that answers ARP and returns every UDP datagram, whole or in
 * fragments, until one comes for port 9. Options: pairs=N, features=MASK to leave out.
 */
#include "net.h"

#define QUIT_PORT 9
#define FEATURES                                                                            \
  (F_EVENT_IDX | F_INDIRECT_DESC | NET_F_MAC | NET_F_MTU | NET_F_STATUS | NET_F_MRG_RXBUF | \
   NET_F_CSUM | NET_F_GUEST_CSUM | NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_CTRL_MAC | NET_F_MQ)

static const u8 our_address[] = {192, 0, 2, 2};
static u8 mac[6];

static void swap(u8 *a, u8 *b, u32 count) {
  for (u32 i = 0; i < count; i++) {
    u8 byte = a[i];
    a[i] = b[i];
    b[i] = byte;
  }
}

static bool answer_arp(u8 *frame) {
  u8 *arp = frame + 14;
  bool request = arp[7] == 1 && memcmp(arp + 24, our_address, 4) == 0;
  if (!request) return false;
  arp[7] = 2;
  swap(arp + 8, arp + 18, 10);
  memcpy(arp + 8, mac, 6);
  return true;
}

/* Both addresses and both ports change places, so that all sums stay right, partial ones too. */
static bool return_datagram(u8 *frame, bool *quit) {
  u8 *ip = frame + 14, *udp = ip + 20;
  if (ip[0] != 0x45 || ip[9] != 17 || memcmp(ip + 16, our_address, 4) != 0) return false;
  swap(ip + 12, ip + 16, 4);
  bool first = (ip[6] & 0x1f) == 0 && ip[7] == 0;
  if (!first) return true;
  *quit = udp[2] == 0 && udp[3] == QUIT_PORT;
  swap(udp, udp + 2, 2);
  return !*quit;
}

static bool answer(u8 *packet, bool *quit) {
  struct net_header *h = (void *)packet;
  u8 *frame = packet + sizeof(*h);
  u16 type = (u16)(frame[12] << 8 | frame[13]);
  bool wanted = type == 0x806   ? answer_arp(frame)
                : type == 0x800 ? return_datagram(frame, quit)
                                : false;
  if (!wanted) return false;
  memcpy(frame, frame + 6, 6);
  memcpy(frame + 6, mac, 6);
  h->flags &= 1; /* only what says that a sum is to be filled in */
  h->buffers = 0;
  return true;
}

static void introduce(struct net *n) {
  volatile u8 *config = n->device.config;
  for (u32 i = 0; i < 6; i++) mac[i] = read8(config + NET_CONFIG_MAC + i);
  u32 mtu = (n->device.features & NET_F_MTU) != 0 ? read16(config + NET_CONFIG_MTU) : 0;
  print("net ready: mac %02x:%02x:%02x:%02x:%02x:%02x mtu %u pairs %u link %u\n", mac[0], mac[1],
        mac[2], mac[3], mac[4], mac[5], mtu, n->pairs, read16(config + NET_CONFIG_STATUS));
}

static void echo(void) {
  static struct net n;
  if (!net_open(&n, FEATURES & ~option_number("features", 0), (u32)option_number("pairs", 1))) {
    not_ok("net", "no device");
    return;
  }
  introduce(&n);
  u32 counts[NET_MAX_PAIRS] = {0}, lost = 0;
  bool quit = false, up = true;
  while (!quit) {
    for (u32 i = 0; i < n.pairs && !quit; i++) {
      struct net_pair *p = &n.pair[i];
      u32 length = net_receive(p, p->packet);
      if (length == 0 || !answer(p->packet, &quit)) continue;
      counts[i]++;
      if (!net_send(p, length)) lost++;
    }
    if (up && (read16(n.device.config + NET_CONFIG_STATUS) & NET_LINK_UP) == 0) {
      up = false;
      print("net link down\n");
      /* Frames go nowhere from now on, and come back as sent. */
      check("net-send-down", net_send(&n.pair[0], 100), "stuck");
      quit = option_number("until-down", 0) != 0;
    }
    pause();
  }
  for (u32 i = 0; i < n.pairs; i++) print("net pair %u: %u frames\n", i, counts[i]);
  check("net-echo", lost == 0, "%u frames were not taken", lost);
}
PROGRAM("net-echo", echo);

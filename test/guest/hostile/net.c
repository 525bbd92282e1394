/* Frames, receive buffers and commands that no driver would make. */
#include "net.h"

#include "hostile.h"

#define FEATURES                                                                     \
  (F_EVENT_IDX | F_INDIRECT_DESC | NET_F_MRG_RXBUF | NET_F_CSUM | NET_F_GUEST_CSUM | \
   NET_F_HOST_TSO4 | NET_F_CTRL_VQ | NET_F_CTRL_RX | NET_F_MQ | NET_F_GUEST_OFFLOADS)
#define SETTLE_US 100000

static struct net n;

static bool reopen(void) { return net_open(&n, FEATURES, 1); }

static bool works(void) {
  memset(n.pair[0].packet, 0, 72);
  return net_send(&n.pair[0], 72);
}

/* The chain is returned or the device breaks, and works after a reset. */
static void judge_chain(const char *name, struct virtqueue *q, u32 allowed) {
  virtqueue_notify(q);
  u32 outcome = OUT_IGNORED, id, used;
  for (u64 end = now_us() + SETTLE_US; now_us() < end && outcome == OUT_IGNORED; delay_us(50)) {
    if (virtqueue_poll(q, &id, &used)) outcome = OUT_OK;
    if ((virtio_status(&n.device) & NEEDS_RESET) != 0) outcome = OUT_BROKEN;
  }
  bool alive = reopen() && works();
  if (check(name, (outcome & allowed) != 0 && alive, "%s, then %s", outcome_name(outcome),
            alive ? "alive" : "dead"))
    print("%s: %s\n", name, outcome_name(outcome));
}

static void chain(const char *name, struct virtqueue *q, const struct buffer *b, u32 out, u32 in,
                  u32 allowed) {
  virtqueue_add(q, b, out, in);
  judge_chain(name, q, allowed);
}

static void transmit(void) {
  struct virtqueue *q = &n.pair[0].transmit;
  u8 *data = alloc(131072);
  chain("net-tx-header-only", q, &(struct buffer){data, 12}, 1, 0, OUT_OK);
  chain("net-tx-no-header", q, &(struct buffer){data, 11}, 1, 0, OUT_OK);
  chain("net-tx-one-byte", q, &(struct buffer){data, 1}, 1, 0, OUT_OK);
  chain("net-tx-empty", q, &(struct buffer){data, 0}, 1, 0, OUT_OK);
  chain("net-tx-writable", q, &(struct buffer){data, 100}, 0, 1, OUT_OK);
  chain("net-tx-oversize", q, &(struct buffer){data, 131072}, 1, 0, OUT_OK);
  chain("net-tx-4-gib", q, &(struct buffer){data, 0xffffffff}, 1, 0, OUT_ANY);
  static struct buffer pieces[256];
  for (u32 i = 0; i < ARRAY_SIZE(pieces); i++) pieces[i] = (struct buffer){data + i, 1};
  chain("net-tx-pieces", q, pieces, ARRAY_SIZE(pieces), 0, OUT_OK);
  for (u32 i = 0; i < ARRAY_SIZE(pieces); i++) pieces[i] = (struct buffer){data, 131072};
  chain("net-tx-pieces-oversize", q, pieces, ARRAY_SIZE(pieces), 0, OUT_OK);
  struct buffer both[] = {{data, 72}, {data + 4096, 72}};
  chain("net-tx-readable-then-writable", q, both, 1, 1, OUT_OK);
  chain("net-tx-hole", q, &(struct buffer){(void *)hole_address(), 72}, 1, 0, OUT_BROKEN);
}

/* The kernel decides what a header may say. */
static void headers(void) {
  struct net_pair *p = &n.pair[0];
  for (u32 i = 0; i < 2000; i++) {
    u64 words[] = {random_next(), random_next()};
    memcpy(p->packet, words, sizeof(struct net_header));
    for (u32 at = 12; at < 200; at++) p->packet[at] = (u8)random_next();
    if (!net_send(p, 13 + (u32)(random_next() % 3000))) {
      not_ok("net-tx-headers", "frame %u stays", i);
      return;
    }
  }
  check("net-tx-headers", reopen() && works(), "dead");
}

static void receive(void) {
  struct virtqueue *q = &n.pair[0].receive;
  u8 *data = alloc(65536);
  /* After the driver's own buffers, which frames of the host may fill: the next chain that is
   * looked at breaks the device, or nobody looks. */
  static const u32 small[] = {0, 1, 11};
  for (u32 i = 0; i < ARRAY_SIZE(small); i++) {
    virtqueue_init(q, &n.device, 0, 0, NO_VECTOR);
    chain("net-rx-small", q, &(struct buffer){data, small[i]}, 0, 1, OUT_ANY);
  }
  chain("net-rx-readable", q, &(struct buffer){data, 2048}, 1, 0, OUT_ANY);
  chain("net-rx-hole", q, &(struct buffer){(void *)hole_address(), 2048}, 0, 1, OUT_ANY);
  q->avail->index = (u16)(q->avail->index + 0x8000);
  judge_chain("net-rx-avail", q, OUT_ANY);
}

static void control(void) {
  struct virtqueue *q = &n.control;
  u8 *data = alloc(65536);
  u32 wrong = 0;
  for (u32 class = 0; class < 8; class ++) {
    for (u32 command = 0; command < 8; command++) {
      for (u32 length = 0; length < 12; length++) {
        u64 words[] = {random_next() | 0xff000000ff000000, random_next()};
        /* Receive modes and tables are accepted, rightly. */
        if (net_command(&n, (u8) class, (u8)command, words, length) && class > 1) wrong++;
      }
    }
  }
  check("net-control-garbage", wrong == 0, "%u were acknowledged", wrong);
  chain("net-control-no-answer", q, &(struct buffer){data, 4}, 1, 0, OUT_OK);
  chain("net-control-no-command", q, &(struct buffer){data, 4}, 0, 1, OUT_OK);
  struct buffer large[] = {{data, 65536}, {data, 65536}};
  chain("net-control-large", q, large, 1, 1, OUT_OK);
  for (u32 i = 0; i < 65536; i++) data[i] = 1;
  chain("net-control-large-ones", q, large, 1, 1, OUT_OK);
}

/* A device that is reset while frames come and go. */
static void resets(void) {
  bool alive = true;
  size_t mark = alloc_mark();
  for (u32 i = 0; i < 200 && alive; i++) {
    struct net_pair *p = &n.pair[0];
    struct buffer one = {p->packet, 72};
    for (u32 k = 0; k < 100; k++) virtqueue_add(&p->transmit, &one, 1, 0);
    virtqueue_notify(&p->transmit);
    delay_us(random_next() % 200);
    virtio_reset(&n.device);
    alloc_release(mark);
    alive = reopen();
  }
  check("net-resets", alive && works(), "dead");
}

static void hostile_net(void) {
  if (!reopen()) {
    not_ok("net", "no device");
    return;
  }
  transmit();
  headers();
  receive();
  control();
  resets();
}
PROGRAM("hostile-net", hostile_net);

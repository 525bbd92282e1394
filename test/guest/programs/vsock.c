/*
 * Services for the host's programs, by port, and connections to them:
 *
 *   1 digest   takes all until the client stops sending, then answers with count and sums, and
 *              closes
 *   2 echo     returns what comes
 *   3 deaf     accepts, and never takes anything
 *   4 source   sends `bytes` of the pattern and closes
 *   8 reset    resets the machine
 *   9 quit     ends the program
 *
 * Others are refused.
 */
#include "vsock.h"

#define MAX_STREAMS 1024
#define ROOM 65536
#define FEATURES (F_EVENT_IDX | F_INDIRECT_DESC)
#define FIRST_PORT 5000 /* of our own connections */

enum { DIGEST = 1, ECHO = 2, DEAF = 3, SOURCE = 4, RESET = 8, QUIT = 9 };

struct digest {
  u64 count;
  u32 a, b;
};

struct stream {
  bool used, open, peer_done, closing;
  u32 our_port, their_port, service;
  u32 received, forwarded, told, sent, peer_room, peer_forwarded;
  u64 to_send; /* of the pattern, from `sent` on */
  struct digest digest;
  u8 *queue; /* of an echo: `queued` bytes */
  u32 queued;
};

static struct vsock v;
static struct stream *streams;
static u32 wrong, refused;
static bool quit;

static u8 pattern(u32 port, u64 at) { return (u8)(port * 131 + at * 7 + (at >> 8)); }

static void add_to_digest(struct digest *d, const u8 *bytes, u32 length) {
  for (u32 i = 0; i < length; i++) {
    d->a += bytes[i];
    d->b += d->a;
  }
  d->count += length;
}

static struct stream *find(u32 our_port, u32 their_port) {
  for (u32 i = 0; i < MAX_STREAMS; i++) {
    struct stream *s = &streams[i];
    if (s->used && s->our_port == our_port && s->their_port == their_port) return s;
  }
  return NULL;
}

static struct stream *make(u32 our_port, u32 their_port) {
  for (u32 i = 0; i < MAX_STREAMS; i++) {
    struct stream *s = &streams[i];
    if (s->used) continue;
    u8 *queue = s->queue;
    memset(s, 0, sizeof(*s));
    s->used = true;
    s->our_port = our_port;
    s->their_port = their_port;
    s->queue = queue;
    return s;
  }
  return NULL;
}

static void tell_ports(u32 our_port, u32 their_port, u16 operation) {
  struct vsock_header h = {v.cid, VSOCK_HOST, our_port, their_port, 0, 1, operation, 0, 0, 0};
  if (!vsock_send(&v, &h, 0)) wrong++;
}

static void tell(struct stream *s, u16 operation, u32 flags, u32 length) {
  u32 room = s->service == DEAF ? 4096 : ROOM;
  struct vsock_header h = {v.cid, VSOCK_HOST, s->our_port, s->their_port, 0,
                           1,     operation,  flags,       room,          s->forwarded};
  s->told = s->forwarded;
  s->sent += length;
  if (!vsock_send(&v, &h, length)) wrong++;
}

static u32 credit(const struct stream *s) { return s->peer_room - (s->sent - s->peer_forwarded); }

/* Sends what there is to send. True if something went out. */
static bool pump(struct stream *s) {
  if (!s->open || s->closing) return false;
  u32 length = MIN(credit(s), VSOCK_MAX_DATA);
  if (s->to_send != 0 && length != 0) {
    length = (u32)MIN((u64)length, s->to_send);
    for (u32 i = 0; i < length; i++) v.data[i] = pattern(s->our_port, s->sent + i);
    tell(s, VSOCK_RW, 0, length);
    s->to_send -= length;
    if (s->to_send != 0) return true;
    /* Those who wait for an answer stop sending only. */
    s->closing = s->service == SOURCE;
    tell(s, VSOCK_SHUTDOWN, s->closing ? VSOCK_NO_SEND | VSOCK_NO_RECEIVE : VSOCK_NO_SEND, 0);
    return true;
  }
  if (s->queued != 0 && length != 0) {
    length = MIN(length, s->queued);
    memcpy(v.data, s->queue, length);
    s->queued -= length;
    /* Downwards: memcpy goes forwards. */
    memcpy(s->queue, s->queue + length, s->queued);
    s->forwarded += length;
    tell(s, VSOCK_RW, 0, length);
    return true;
  }
  if (s->peer_done && s->queued == 0 && (s->service == DIGEST || s->service == ECHO)) {
    if (s->service == DIGEST) {
      memcpy(v.data, &s->digest, sizeof(s->digest));
      tell(s, VSOCK_RW, 0, sizeof(s->digest));
    }
    s->closing = true;
    tell(s, VSOCK_SHUTDOWN, VSOCK_NO_SEND | VSOCK_NO_RECEIVE, 0);
    return true;
  }
  return false;
}

static void take_data(struct stream *s, const u8 *data, u32 length) {
  s->received += length;
  if (s->service == DEAF) return;
  if (s->service == ECHO) {
    if (s->queued + length > ROOM) {
      wrong++;
      return;
    }
    memcpy(s->queue + s->queued, data, length);
    s->queued += length;
    return;
  }
  add_to_digest(&s->digest, data, length);
  if (s->service == 0) memcpy((u8 *)&s->digest, data, MIN(length, (u32)sizeof(s->digest)));
  s->forwarded += length;
  if (s->forwarded - s->told >= ROOM / 2) tell(s, VSOCK_CREDIT_UPDATE, 0, 0);
}

static void requested(const struct vsock_header *h) {
  u32 port = h->destination_port;
  struct stream *s =
      port <= SOURCE || port == RESET || port == QUIT ? make(port, h->source_port) : NULL;
  if (s == NULL) {
    refused++;
    tell_ports(port, h->source_port, VSOCK_RST);
    return;
  }
  s->open = true;
  s->service = port;
  s->peer_room = h->buffer_size;
  s->peer_forwarded = h->forwarded;
  if (port == SOURCE) s->to_send = option_number("bytes", 1 << 20);
  if (port == ECHO && s->queue == NULL) s->queue = alloc(ROOM);
  tell(s, VSOCK_RESPONSE, 0, 0);
  if (port == RESET) reset("acpi");
  if (port == QUIT) quit = true;
}

static void arrived(const struct vsock_header *h) {
  if (h->operation == VSOCK_REQUEST) {
    requested(h);
    return;
  }
  struct stream *s = find(h->destination_port, h->source_port);
  if (s == NULL) {
    if (h->operation != VSOCK_RST) tell_ports(h->destination_port, h->source_port, VSOCK_RST);
    return;
  }
  s->peer_room = h->buffer_size;
  s->peer_forwarded = h->forwarded;
  switch (h->operation) {
    case VSOCK_RESPONSE:
      s->open = true;
      break;
    case VSOCK_RW:
      take_data(s, (const u8 *)(h + 1), h->length);
      break;
    case VSOCK_RST:
      s->used = false;
      break;
    case VSOCK_SHUTDOWN:
      if ((h->flags & VSOCK_NO_SEND) != 0) s->peer_done = true;
      if (h->flags == (VSOCK_NO_SEND | VSOCK_NO_RECEIVE) && !s->closing) {
        tell(s, VSOCK_RST, 0, 0);
        s->used = false;
      }
      break;
    case VSOCK_CREDIT_REQUEST:
      tell(s, VSOCK_CREDIT_UPDATE, 0, 0);
      break;
    default:
      break;
  }
}

/* One look at everything. */
static void turn(void) {
  const struct vsock_header *h = vsock_receive(&v);
  if (h != NULL) {
    arrived(h);
    vsock_release(&v, h);
  }
  static u32 next;
  for (u32 i = 0; i < 16; i++) {
    struct stream *s = &streams[next++ % MAX_STREAMS];
    if (s->used) pump(s);
  }
}

static bool open_device(void) {
  streams = alloc(MAX_STREAMS * sizeof(*streams));
  if (vsock_open(&v, FEATURES)) return true;
  not_ok("vsock", "no device");
  return false;
}

static void serve(void) {
  if (!open_device()) return;
  print("vsock ready: cid %lu queue-size %u\n", v.cid, v.receive.size);
  while (!quit) turn();
  check("vsock-serve", wrong == 0, "%u packets were not taken", wrong);
  print("refused %u\n", refused);
}
PROGRAM("vsock-serve", serve);

/* Opens the device and leaves it alone. */
static void idle(void) {
  if (open_device()) ok("vsock-idle");
}
PROGRAM("vsock-idle", idle);

/* `streams` connections to the host's `port`, each sends `bytes` and gets their digest back. */
static void connect_all(void) {
  if (!open_device()) return;
  u32 count = (u32)option_number("streams", 1), port = (u32)option_number("port", 1);
  u64 bytes = option_number("bytes", 1 << 20);
  u64 end = now_us() + 30000000;
  for (u32 i = 0; i < count; i++) {
    struct stream *s = make(FIRST_PORT + i, port);
    s->to_send = bytes;
    tell(s, VSOCK_REQUEST, 0, 0);
  }
  u32 live = count;
  while (live != 0 && now_us() < end) {
    for (u32 i = 0; i < 64; i++) turn();
    live = 0;
    for (u32 i = 0; i < count; i++) live += streams[i].used;
  }
  u32 good = 0, opened = 0;
  for (u32 i = 0; i < count; i++) {
    struct stream *s = &streams[i];
    struct digest wanted = {0};
    for (u64 at = 0; at < bytes; at++) {
      u8 byte = pattern(s->our_port, at);
      add_to_digest(&wanted, &byte, 1);
    }
    opened += s->open;
    good += memcmp(&s->digest, &wanted, sizeof(wanted)) == 0;
  }
  print("opened %u\n", opened);
  check("vsock-connect", good == (option_number("refused", 0) != 0 ? 0 : count) && live == 0,
        "%u of %u digests are right, %u streams live", good, count, live);
}
PROGRAM("vsock-connect", connect_all);

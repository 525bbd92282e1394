/*
 * virtio-net at full speed. Options:
 *
 *   frame=BYTES      of each frame, without check sum; above 1514 as one TCP segment to be cut up
 * (TSO) direction=out    as many frames as the device takes; latency: until it has taken one
 *   direction=back   the host returns each frame `copies=N` times; latency: there and back
 *   depth=N          frames on their way
 *
 * Frames carry their number and when they were sent; what comes back must come in order.
 */
#include "measure.h"

#define NET_F_CSUM (1ul << 0)
#define NET_F_GUEST_CSUM (1ul << 1)
#define NET_F_GUEST_TSO4 (1ul << 7)
#define NET_F_HOST_TSO4 (1ul << 11)
#define NET_F_MRG_RXBUF (1ul << 15)

#define NEEDS_CSUM 1
#define GSO_TCPV4 1
#define MSS 1460
#define HEADERS 54 /* Ethernet, IPv4, TCP */
#define MAX_SLOTS 256
#define BUFFER 4096u
#define TSO_DESCRIPTORS 3
#define LARGE_DESCRIPTORS 16 /* of BUFFER bytes: a 64 KiB frame without mergeable buffers */
#define PATIENCE 50000000ul  /* cycles without any frame after which those on their way are lost */

struct net_header {
  u8 flags, gso_type;
  u16 header_length, gso_size, csum_start, csum_offset, buffers;
} __attribute__((packed));

/* In every frame, at mark_at. */
struct mark {
  u32 number, magic;
  u64 sent;
} __attribute__((packed));
#define MAGIC 0x7473766du

static struct virtio device;
static struct ring receive, transmit;
static struct mark *marks[MAX_SLOTS];
static u64 sent_at[MAX_SLOTS];
static u16 free_slots[MAX_SLOTS];
static u8 *receive_data;
static u32 frame_bytes, mark_at, depth, copies, slots, free_count, slot_descriptors,
    buffer_descriptors;
static u32 sent, returned, lost, bad, given_up;
static bool tso, back, interrupts, mergeable;
static struct histogram latency;

static bool open_device(void) {
  u64 features = F_EVENT_IDX | NET_F_MRG_RXBUF;
  if (tso) features |= NET_F_CSUM | NET_F_HOST_TSO4 | NET_F_GUEST_CSUM | NET_F_GUEST_TSO4;
  if (!virtio_find(&device, VIRTIO_NET, 0) || !virtio_start(&device, features)) {
    not_ok("net", "no device");
    return false;
  }
  if (tso && (device.features & NET_F_HOST_TSO4) == 0) {
    not_ok("net", "the device has no TSO");
    return false;
  }
  mergeable = (device.features & NET_F_MRG_RXBUF) != 0;
  u16 entry = interrupts ? MEASURE_ENTRY : NO_VECTOR;
  ring_init(&receive, &device, 0, 256, entry);
  ring_init(&transmit, &device, 1, 256, entry);
  virtio_driver_ok(&device);
  if (interrupts) measure_interrupts(&device);
  return true;
}

/* IPv4 and TCP headers that Linux takes for a segment of a connection (RFC 791, RFC 9293). */
static void write_headers(u8 *frame) {
  static const u8 ethernet[] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5};
  memcpy(frame, ethernet, sizeof(ethernet));
  if (frame_bytes < HEADERS) return;
  u8 *ip = frame + 14, *tcp = ip + 20;
  static const u8 ip_start[] = {0x45, 0, 0,  0, 0, 0, 0x40, 0, 64, 6,
                                0,    0, 10, 0, 0, 2, 10,   0, 0,  1};
  frame[12] = 8;
  frame[13] = 0;
  memcpy(ip, ip_start, sizeof(ip_start));
  ip[2] = (u8)((frame_bytes - 14) >> 8);
  ip[3] = (u8)(frame_bytes - 14);
  u32 sum = 0;
  for (u32 i = 0; i < 20; i += 2) sum += (u32)ip[i] << 8 | ip[i + 1];
  sum = ~((sum & 0xffff) + (sum >> 16));
  ip[10] = (u8)(sum >> 8);
  ip[11] = (u8)sum;
  tcp[1] = 1;
  tcp[3] = 2;
  tcp[12] = 0x50;
  tcp[13] = 0x10;
  tcp[14] = 0xff;
}

static void make_transmit_slot(u16 slot, u8 *memory) {
  u16 head = (u16)(slot * slot_descriptors);
  struct net_header *h = (void *)memory;
  u8 *frame = memory + sizeof(*h);
  volatile struct vring_desc *d = &transmit.q.desc[head];
  *h = (struct net_header){0};
  write_headers(frame);
  marks[slot] = (void *)(frame + mark_at);
  d[0] = (struct vring_desc){(u64)memory, sizeof(*h) + frame_bytes, 0, 0};
  if (!tso) return;
  *h = (struct net_header){NEEDS_CSUM, GSO_TCPV4, HEADERS, MSS, 34, 16, 0};
  /* As Linux sends it: the headers, and the data in pieces of up to 32 KiB. */
  u32 data = frame_bytes - HEADERS, first = MIN(data / 2, 32768u);
  d[0] = (struct vring_desc){(u64)memory, sizeof(*h) + HEADERS, DESC_NEXT, (u16)(head + 1)};
  d[1] = (struct vring_desc){(u64)frame + HEADERS, first, DESC_NEXT, (u16)(head + 2)};
  d[2] = (struct vring_desc){(u64)frame + HEADERS + first, data - first, 0, 0};
}

static void make_buffers(void) {
  slot_descriptors = tso ? TSO_DESCRIPTORS : 1;
  slots = MIN(MAX_SLOTS, transmit.q.size / slot_descriptors);
  depth = (u32)MIN(option_number("depth", 128), (u64)slots);
  u64 stride = ALIGN_UP(frame_bytes + 64, 4096);
  u8 *memory = alloc(slots * stride);
  for (u16 i = 0; i < slots; i++) {
    make_transmit_slot(i, memory + i * stride);
    free_slots[free_count++] = i;
  }
  buffer_descriptors = tso && !mergeable ? LARGE_DESCRIPTORS : 1;
  receive_data = alloc((u64)receive.q.size * BUFFER);
  for (u16 i = 0; i < receive.q.size; i++) {
    bool last = (i + 1u) % buffer_descriptors == 0;
    receive.q.desc[i] =
        (struct vring_desc){(u64)receive_data + (u64)i * BUFFER, BUFFER,
                            (u16)(DESC_WRITE | (last ? 0 : DESC_NEXT)), (u16)(i + 1)};
    if (i % buffer_descriptors == 0) ring_push(&receive, i);
  }
  ring_publish(&receive);
}

static void push(u64 now) {
  u16 slot = free_slots[--free_count];
  *marks[slot] = (struct mark){sent++, MAGIC, now};
  sent_at[slot] = now;
  ring_push(&transmit, (u16)(slot * slot_descriptors));
}

static void reap_transmitted(u64 now) {
  u16 used = transmit.q.used->index;
  while (transmit.seen != used) {
    u32 head = transmit.q.used->ring[transmit.seen++ & transmit.mask].id;
    u16 slot = (u16)(head / slot_descriptors);
    free_slots[free_count++] = slot;
    if (!back) histogram_add(&latency, now - sent_at[slot]);
  }
}

/* The frames still on their way: not taken by the device, or not all of their copies back. */
static u32 on_their_way(void) {
  return back ? sent - given_up - returned / copies : slots - free_count;
}

static void take_frame(const u8 *buffer, u32 length, u64 now) {
  const struct mark *m = (const void *)(buffer + sizeof(struct net_header) + mark_at);
  if (length != sizeof(struct net_header) + frame_bytes || m->magic != MAGIC) {
    bad++;
    return;
  }
  u32 expected = given_up + returned / copies;
  if (m->number != expected) {
    if (m->number < expected) return; /* given up before */
    lost += (m->number - expected) * copies - returned % copies;
    returned += (m->number - expected) * copies - returned % copies;
  }
  returned++;
  histogram_add(&latency, now - m->sent);
}

/* True if there was anything. */
static bool reap_received(u64 now) {
  u16 used = receive.q.used->index;
  if (receive.seen == used) return false;
  barrier();
  while (receive.seen != used) {
    volatile struct vring_used_element *e = &receive.q.used->ring[receive.seen & receive.mask];
    const u8 *buffer = receive_data + (u64)e->id * BUFFER;
    u16 buffers = mergeable ? ((const struct net_header *)buffer)->buffers : 1;
    /* The device shows all of a frame's buffers at once (virtio 1.2 §5.1.6.4). */
    if (buffers == 0 || (u16)(used - receive.seen) < buffers) {
      bad++;
      buffers = 1;
    }
    u32 length = 0;
    for (u16 i = 0; i < buffers; i++) {
      e = &receive.q.used->ring[receive.seen++ & receive.mask];
      length += e->length;
      ring_push(&receive, (u16)e->id);
    }
    take_frame(buffer, length, now);
  }
  ring_publish(&receive);
  return true;
}

static void wait_for_any(void) {
  u32 seen = interrupts_seen();
  bool idle = ring_arm(&receive);
  if (!back) idle = ring_arm(&transmit) && idle;
  if (idle) halt_until_interrupt(seen);
}

static void give_up(void) {
  lost += (sent - given_up) * copies - returned;
  given_up = sent;
  returned = 0;
}

static void run_until(u64 end) {
  u64 now = rdtsc(), patience = now + PATIENCE;
  for (; now < end || on_their_way() != 0; now = rdtsc()) {
    u32 before = free_count;
    reap_transmitted(now);
    bool busy = before != free_count;
    if (now < end && on_their_way() < depth && free_count != 0) {
      while (on_their_way() < depth && free_count != 0) push(now);
      ring_publish(&transmit);
      busy = true;
    }
    busy = reap_received(now) || busy;
    if (busy) patience = now + PATIENCE;
    if (!busy && interrupts) wait_for_any();
    if (!busy && now > patience && back) give_up();
  }
}

static void measure_net(void) {
  back = strcmp(option("direction", "out"), "back") == 0;
  frame_bytes = (u32)option_number("frame", 1514);
  copies = (u32)option_number("copies", 1);
  interrupts = waits_for_interrupts();
  tso = frame_bytes > 1514;
  mark_at = frame_bytes < HEADERS + 32 ? 16 : HEADERS + 2;
  if (!open_device()) return;
  make_buffers();
  measure_ready();
  run_until(phase_end("warm", 50));
  histogram_clear(&latency);
  lost = transmit.kicks = receive.kicks = 0;
  u32 sent_before = sent, returned_before = returned + given_up * copies;
  measure_begin();
  u64 begin = rdtsc();
  run_until(phase_end("ms", 300));
  u64 cycles = rdtsc() - begin;
  measure_end();
  u32 count = back ? returned + given_up * copies - returned_before - lost : sent - sent_before;
  print("result ops=%u bytes=%lu cycles=%lu kicks=%u sent=%u lost=%u mergeable=%u\n", count,
        (u64)count * frame_bytes, cycles, transmit.kicks + receive.kicks, sent, lost, mergeable);
  histogram_report(&latency);
  check("net-frames", bad == 0, "%u frames are not what was sent", bad);
}
PROGRAM("net", measure_net);

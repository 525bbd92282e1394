/*
 * virtio-vsock at full speed, one stream connection to the host (virtio 1.2 §5.10). Options:
 *
 *   direction=to-host, to-guest or echo     bytes=N  of the timed phase (streams)
 *   packet=BYTES  sent at once              buffer=BYTES  of each receive buffer
 *   credit=BYTES  that the host may have on the way to us
 */
#include "measure.h"
#include "stream.h"

#define VIRTIO_VSOCK 19
#define HOST_CID 2
#define OUR_PORT 1025
#define TYPE_STREAM 1
#define MAX_SLOTS 64
#define PATIENCE_US 5000000
#define CREDIT_PATIENCE 20000000 /* cycles, some ms */

enum { REQUEST = 1, RESPONSE, RST, SHUTDOWN, RW, CREDIT_UPDATE, CREDIT_REQUEST };

struct header {
  u64 source_cid, destination_cid;
  u32 source_port, destination_port, length;
  u16 type, operation;
  u32 flags, buffer_size, forwarded;
} __attribute__((packed));

static struct virtio device;
static struct ring receive, transmit;
static struct header *sent_headers, *received_headers;
static u8 *received_data, *content;
static u16 free_slots[MAX_SLOTS];
static u32 slots, free_count, buffer_bytes, packet_bytes, credit;
static u32 sent, received, told, peer_buffer, peer_forwarded;
static u64 cid;
static bool interrupts, connected, closed;
static struct histogram latency;

/* Where received data goes. */
static u8 *sink;              /* copied to, or */
static u64 position, arrived; /* checked as the stream's content from `position` */
static u64 wrong;

static bool open_device(void) {
  if (!virtio_find(&device, VIRTIO_VSOCK, 0) || !virtio_start(&device, F_EVENT_IDX)) {
    not_ok("vsock", "no device");
    return false;
  }
  u16 entry = interrupts ? MEASURE_ENTRY : NO_VECTOR;
  ring_init(&receive, &device, 0, 256, entry);
  ring_init(&transmit, &device, 1, 256, NO_VECTOR);
  struct ring *events = alloc(sizeof(*events));
  ring_init(events, &device, 2, 256, NO_VECTOR);
  virtio_driver_ok(&device);
  if (interrupts) measure_interrupts(&device);
  cid = read32(device.config) | (u64)read32(device.config + 4) << 32;
  return true;
}

static void make_buffers(void) {
  slots = MIN(MAX_SLOTS, MIN(receive.q.size, transmit.q.size) / 2u);
  sent_headers = alloc(slots * 64ul);
  received_headers = alloc(slots * 64ul);
  received_data = alloc((u64)slots * buffer_bytes);
  content = alloc(STREAM_PERIOD + packet_bytes);
  for (u64 at = 0; at < STREAM_PERIOD + packet_bytes; at += 8)
    *(u64 *)(content + at) = stream_word(at);
  for (u16 i = 0; i < slots; i++) {
    u16 head = (u16)(i * 2), tail = (u16)(head + 1);
    receive.q.desc[head] = (struct vring_desc){(u64)received_headers + i * 64ul,
                                               sizeof(struct header), DESC_NEXT | DESC_WRITE, tail};
    receive.q.desc[tail] = (struct vring_desc){(u64)received_data + (u64)i * buffer_bytes,
                                               buffer_bytes, DESC_WRITE, 0};
    transmit.q.desc[head] =
        (struct vring_desc){(u64)sent_headers + i * 64ul, sizeof(struct header), 0, tail};
    free_slots[free_count++] = i;
    ring_push(&receive, head);
  }
  ring_publish(&receive);
}

static void reap_transmitted(void) {
  u16 used = transmit.q.used->index;
  while (transmit.seen != used)
    free_slots[free_count++] = (u16)(transmit.q.used->ring[transmit.seen++ & transmit.mask].id / 2);
}

static void take_data(const u8 *data, u32 length) {
  received += length;
  arrived += length;
  if (sink != NULL) {
    memcpy(sink, data, length);
    sink += length;
    return;
  }
  wrong += stream_wrong(data, position, length);
  position += length;
}

static void reap_received(void) {
  u16 used = receive.q.used->index;
  if (receive.seen == used) return;
  barrier();
  do {
    u16 head = (u16)receive.q.used->ring[receive.seen++ & receive.mask].id;
    const struct header *h = (void *)((u8 *)received_headers + head / 2 * 64ul);
    peer_buffer = h->buffer_size;
    peer_forwarded = h->forwarded;
    if (h->operation == RESPONSE) connected = true;
    if (h->operation == RST || h->operation == SHUTDOWN) closed = true;
    if (h->operation == RW) take_data(received_data + (u64)(head / 2) * buffer_bytes, h->length);
    ring_push(&receive, head);
  } while (receive.seen != used);
  ring_publish(&receive);
}

/* Puts a packet on the ring; the caller has seen that there is a free slot, and publishes. */
static void push(u16 operation, const void *data, u32 length) {
  u16 slot = free_slots[--free_count], head = (u16)(slot * 2);
  struct header *h = (void *)((u8 *)sent_headers + slot * 64ul);
  *h = (struct header){cid,         HOST_CID,  OUR_PORT, STREAM_PORT, length,
                       TYPE_STREAM, operation, 0,        credit,      received};
  told = received;
  transmit.q.desc[head].flags = length == 0 ? 0 : DESC_NEXT;
  transmit.q.desc[head + 1] = (struct vring_desc){(u64)data, length, 0, 0};
  ring_push(&transmit, head);
  sent += length;
}

static void send(u16 operation, const void *data, u32 length) {
  while (free_count == 0) reap_transmitted();
  push(operation, data, length);
  ring_publish(&transmit);
}

/* Tells the host of buffers that are free again, when it is about to run out (as Linux does: of 64
 * KiB). */
static void give_credit(void) {
  if (received - told >= credit / 2 || credit - (received - told) < 65536)
    send(CREDIT_UPDATE, NULL, 0);
}

static u32 credit_left(void) { return peer_buffer - (sent - peer_forwarded); }

static void wait_for_packet(void) {
  u32 seen = interrupts_seen();
  if (interrupts && ring_arm(&receive)) halt_until_interrupt(seen);
}

/* Receives until `done` bytes have arrived in this phase; false if the connection ends before. */
static bool receive_until(u64 done) {
  while (arrived < done && !closed) {
    reap_received();
    give_credit();
    reap_transmitted();
    if (arrived < done) wait_for_packet();
  }
  return arrived >= done;
}

static bool connect(void) {
  send(REQUEST, NULL, 0);
  for (u64 end = now_us() + PATIENCE_US; !connected && !closed && now_us() < end;) reap_received();
  return connected && !closed;
}

static void request(u64 kind, u64 bytes) {
  static struct stream_request r;
  r = (struct stream_request){STREAM_MAGIC, kind, bytes, 0};
  arrived = position = 0;
  send(RW, &r, sizeof(r));
}

/* A phase to the host; its answer says what has arrived. */
static bool send_stream(u64 bytes) {
  static struct stream_answer answer;
  request(STREAM_SINK, bytes);
  /* The answer may come before this CPU sees that all is sent. */
  sink = (u8 *)&answer;
  u64 patience = rdtsc() + CREDIT_PATIENCE;
  for (u64 at = 0; at < bytes && !closed;) {
    reap_transmitted();
    bool pushed = false;
    while (free_count != 0 && at < bytes) {
      u32 length = (u32)MIN((u64)MIN(packet_bytes, credit_left()), bytes - at);
      if (length == 0) break;
      push(RW, content + at % STREAM_PERIOD, length);
      at += length;
      pushed = true;
    }
    if (pushed) ring_publish(&transmit);
    reap_received();
    u64 now = rdtsc();
    if (pushed) patience = now + CREDIT_PATIENCE;
    if (now < patience || free_count == 0) continue;
    send(CREDIT_REQUEST, NULL, 0);
    patience = now + CREDIT_PATIENCE;
  }
  bool answered = receive_until(sizeof(answer));
  sink = NULL;
  if (answered) wrong += answer.wrong + (answer.bytes != bytes);
  return answered;
}

static bool receive_stream(u64 bytes) {
  request(STREAM_SOURCE, bytes);
  return receive_until(bytes);
}

/* Messages there and back, one at a time, until `end`; how many. */
static u64 round_trips(u64 end) {
  u64 count = 0, due = arrived, now = rdtsc();
  while (now < end && !closed) {
    u64 begin = now;
    position = due % STREAM_PERIOD;
    send(RW, content + position, packet_bytes);
    due += packet_bytes;
    if (!receive_until(due)) break;
    now = rdtsc();
    histogram_add(&latency, now - begin);
    count++;
  }
  return count;
}

static void measure_streams(bool to_host) {
  u64 bytes = option_number("bytes", 256ul << 20);
  bool (*const phase)(u64) = to_host ? send_stream : receive_stream;
  bool all = phase(bytes / 8);
  transmit.kicks = receive.kicks = 0;
  measure_begin();
  u64 begin = rdtsc();
  all = all && phase(bytes);
  u64 cycles = rdtsc() - begin;
  measure_end();
  print("result ops=%lu bytes=%lu cycles=%lu kicks=%u\n",
        bytes / (to_host ? packet_bytes : buffer_bytes), bytes, cycles,
        transmit.kicks + receive.kicks);
  check("vsock-stream", all && !closed, "the connection ended");
}

static void measure_round_trips(void) {
  request(STREAM_ECHO, 0);
  round_trips(phase_end("warm", 50));
  histogram_clear(&latency);
  transmit.kicks = receive.kicks = 0;
  measure_begin();
  u64 begin = rdtsc();
  u64 count = round_trips(phase_end("ms", 300));
  u64 cycles = rdtsc() - begin;
  measure_end();
  print("result ops=%lu bytes=%lu cycles=%lu kicks=%u\n", count, count * packet_bytes, cycles,
        transmit.kicks + receive.kicks);
  histogram_report(&latency);
  check("vsock-round-trips", !closed, "the connection ended");
}

static void measure_vsock(void) {
  const char *direction = option("direction", "to-host");
  bool to_host = strcmp(direction, "to-host") == 0, to_guest = strcmp(direction, "to-guest") == 0;
  interrupts = waits_for_interrupts();
  packet_bytes = (u32)option_number("packet", 65536);
  buffer_bytes = (u32)option_number("buffer", 65536);
  credit = (u32)option_number("credit", 262144);
  if (!open_device()) return;
  make_buffers();
  if (!check("vsock-connect", connect(), "no answer from the host")) return;
  measure_ready();
  if (to_host || to_guest)
    measure_streams(to_host);
  else
    measure_round_trips();
  check("vsock-data", wrong == 0, "%lu words or lengths differ", wrong);
}
PROGRAM("vsock", measure_vsock);

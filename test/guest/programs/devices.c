/* Entropy, console and watchdog. */
#include "block.h"
#include "virtio.h"

#define CONSOLE_VECTOR 0x41
#define WATCHDOG_BUFFERS 8

static void rng(void) {
  struct virtio device;
  struct virtqueue q;
  if (!virtio_find(&device, VIRTIO_RNG, 0)) {
    not_ok("rng", "no device");
    return;
  }
  virtio_start(&device, F_EVENT_IDX);
  virtqueue_init(&q, &device, 0, 0, NO_VECTOR);
  virtio_driver_ok(&device);
  u8 *a = alloc(65536), *b = alloc(65536);
  static const u32 sizes[] = {1, 64, 4096, 65536};
  for (u32 i = 0; i < ARRAY_SIZE(sizes); i++) {
    u32 id, first = 0, second = 0;
    virtqueue_add(&q, &(struct buffer){a, sizes[i]}, 0, 1);
    virtqueue_kick(&q);
    bool answered = virtqueue_wait(&q, &id, &first, 1000000);
    virtqueue_add(&q, &(struct buffer){b, sizes[i]}, 0, 1);
    virtqueue_kick(&q);
    answered = virtqueue_wait(&q, &id, &second, 1000000) && answered;
    bool differ = sizes[i] < 64 || memcmp(a, b, 64) != 0;
    check("rng-read", answered && first > 0 && first <= sizes[i] && second <= sizes[i] && differ,
          "size %u: answered %u, lengths %u and %u, differ %u", sizes[i], answered, first, second,
          differ);
  }
}
PROGRAM("rng", rng);

struct console {
  struct virtio device;
  struct virtqueue input, output;
  char *text;
};

static bool console_open(struct console *c) {
  if (!virtio_find(&c->device, VIRTIO_CONSOLE, 0)) {
    not_ok("console", "no device");
    return false;
  }
  virtio_start(&c->device, 1 /* SIZE */);
  virtqueue_init(&c->input, &c->device, 0, 0, 1);
  virtqueue_init(&c->output, &c->device, 1, 0, NO_VECTOR);
  msix_route(&c->device, 1, CONSOLE_VECTOR);
  virtio_driver_ok(&c->device);
  c->text = alloc(8192);
  return true;
}

static bool console_write(struct console *c, const void *text, u32 size) {
  u32 id, length;
  virtqueue_add(&c->output, &(struct buffer){text, size}, 1, 0);
  virtqueue_kick(&c->output);
  return virtqueue_wait(&c->output, &id, &length, 2000000);
}

static void console(void) {
  struct console c;
  if (!console_open(&c)) return;
  print("console size %ux%u\n", read16(c.device.config), read16(c.device.config + 2));
  check("console-write", console_write(&c, "hello console\n", 14), "no answer");
  /* Long and odd: 256 KiB in 4,099-byte pieces. */
  for (u32 i = 0; i < 4099; i++) c.text[i] = (char)('a' + i % 26);
  u32 size = (u32)option_number("size", 0);
  bool all = true;
  for (u32 sent = 0; sent < size && all; sent += 4099)
    all = console_write(&c, c.text, MIN(4099, size - sent));
  check("console-flood", all, "no answer");
}
PROGRAM("console", console);

/* Echoes what arrives, in capitals, until a `!`. */
static void console_echo(void) {
  struct console c;
  if (!console_open(&c)) return;
  char *in = alloc(4096);
  u32 bytes = 0;
  bool more = true;
  console_write(&c, "ready\n", 6);
  print("ready\n");
  while (more) {
    u32 id, length, seen = irq_counts[CONSOLE_VECTOR];
    virtqueue_interrupts(&c.input, true);
    virtqueue_add(&c.input, &(struct buffer){in, 64}, 0, 1);
    virtqueue_kick(&c.input);
    if (!wait_irq(CONSOLE_VECTOR, seen, 20000000)) {
      not_ok("console-echo", "no input, %u bytes before", bytes);
      return;
    }
    if (!virtqueue_wait(&c.input, &id, &length, 1000000)) continue;
    for (u32 i = 0; i < length; i++) {
      if (in[i] == '!') more = false;
      if (in[i] >= 'a' && in[i] <= 'z') in[i] = (char)(in[i] - 32);
    }
    bytes += length;
    console_write(&c, in, length);
  }
  ok_because("console-echo", "%u bytes", bytes);
}
PROGRAM("console-echo", console_echo);

/* Waits for other columns and other rows, which come by one config interrupt or by two. */
static void console_resize(void) {
  struct console c;
  if (!console_open(&c)) return;
  write16(c.device.common + COMMON_CONFIG_MSIX_VECTOR, 0);
  msix_route(&c.device, 0, CONSOLE_VECTOR + 1);
  u32 seen = irq_counts[CONSOLE_VECTOR + 1];
  u16 columns = read16(c.device.config), rows = read16(c.device.config + 2);
  print("console size %ux%u\n", columns, rows);
  bool told = true;
  while (told && (read16(c.device.config) == columns || read16(c.device.config + 2) == rows)) {
    told = wait_irq(CONSOLE_VECTOR + 1, seen, 10000000);
    seen++;
  }
  if (check("console-resize", told, "no interrupt"))
    print("console size %ux%u\n", read16(c.device.config), read16(c.device.config + 2));
}
PROGRAM("console-resize", console_resize);

static bool feed(struct virtqueue *q, u8 *byte) {
  u32 id, length;
  *byte = 0;
  virtqueue_add(q, &(struct buffer){byte, 1}, 0, 1);
  virtqueue_kick(q);
  return virtqueue_wait(q, &id, &length, 2000000) && *byte == 1;
}

/* Feeds the watchdog a few times and then, with starve=1, no more: the machine must be reset. */
static void watchdog(void) {
  struct virtio device;
  struct virtqueue q;
  if (!virtio_find(&device, VIRTIO_WATCHDOG, 0)) {
    not_ok("watchdog", "no device");
    return;
  }
  virtio_start(&device, 0);
  virtqueue_init(&q, &device, 0, 0, NO_VECTOR);
  virtio_driver_ok(&device);
  u8 *byte = alloc(4096);
  bool fed = true;
  for (u32 i = 0; i < 20; i++) fed = feed(&q, byte) && fed;
  check("watchdog-feed", fed, "not answered");
  if (option_number("starve", 0) == 0) return;
  print("starving\n");
  halt_forever();
}
PROGRAM("watchdog", watchdog);

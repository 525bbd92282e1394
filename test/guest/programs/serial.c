/* The 16550 at port 0x3f8. */
#include "guest.h"

#define PORT 0x3f8
#define PIN 4
#define VECTOR 0x52
#define IER 1
#define IIR 2
#define LCR 3
#define MCR 4
#define LSR 5
#define SCRATCH 7
#define LSR_DATA 1
#define LSR_THR_EMPTY 0x20

static void serial(void) {
  u64 selector;
  __asm__("mov %%cs, %0" : "=r"(selector));
  print("hello from ring %u\n", (u32)selector & 3);
  ok("serial");
}
PROGRAM("serial", serial);

/* The registers as a driver probes them. */
static void registers(void) {
  out8(PORT + SCRATCH, 0x5a);
  check("serial-scratch", in8(PORT + SCRATCH) == 0x5a, "0x%x", in8(PORT + SCRATCH));
  u8 lcr = in8(PORT + LCR);
  out8(PORT + LCR, lcr | 0x80);
  out8(PORT, 0x34);
  out8(PORT + 1, 0x12);
  u8 low = in8(PORT), high = in8(PORT + 1);
  out8(PORT, 1);
  out8(PORT + 1, 0);
  out8(PORT + LCR, lcr & 0x7f);
  check("serial-divisor", low == 0x34 && high == 0x12, "0x%x%02x", high, low);
  check("serial-empty", (in8(PORT + LSR) & LSR_THR_EMPTY) != 0, "LSR 0x%x", in8(PORT + LSR));
  /* Loopback (MCR bit 4): what is sent is received. */
  out8(PORT + MCR, 0x10);
  out8(PORT, 'L');
  u8 status = in8(PORT + LSR), data = in8(PORT);
  out8(PORT + MCR, 0);
  check("serial-loopback", (status & LSR_DATA) != 0 && data == 'L', "LSR 0x%x data 0x%x", status,
        data);
}
PROGRAM("serial-registers", registers);

/* Echoes input in capitals until a `!`; by interrupt unless poll=1. */
static void echo(void) {
  bool poll = option_number("poll", 0) != 0;
  u32 bytes = 0;
  if (!poll) {
    ioapic_route(PIN, VECTOR, lapic_id());
    out8(PORT + 2, 0x01); /* FIFO on */
    out8(PORT + MCR, 0x08);
    out8(PORT + IER, 0x01);
  }
  print("ready\n");
  for (bool more = true; more;) {
    u32 seen = irq_counts[VECTOR];
    if ((in8(PORT + LSR) & LSR_DATA) == 0) {
      bool came = poll ? (delay_us(1000), true) : wait_irq(VECTOR, seen, 20000000);
      if (!came || now_us() > 30000000) {
        not_ok("serial-echo", "no input, %u bytes before", bytes);
        return;
      }
      continue;
    }
    u8 c = in8(PORT);
    bytes++;
    more = c != '!';
    out8(PORT, c >= 'a' && c <= 'z' ? (u8)(c - 32) : c);
  }
  print("\n");
  ok_because("serial-echo", "%u bytes", bytes);
}
PROGRAM("serial-echo", echo);

/* `size` bytes in lines of 64, as a driver sends them: 16 at a time, when the port can take them.
 */
static void flood(void) {
  u32 size = (u32)option_number("size", 65536);
  char line[64];
  out8(PORT + 2, 0x01); /* FIFO on */
  for (u32 sent = 0; sent < size; sent += sizeof(line)) {
    for (u32 i = 0; i < sizeof(line) - 1; i++) line[i] = (char)('0' + (sent / 64 + i) % 64);
    line[sizeof(line) - 1] = '\n';
    for (u32 at = 0; at < sizeof(line); at += 16) {
      while ((in8(PORT + LSR) & LSR_THR_EMPTY) == 0) delay_us(100);
      print_bytes(line + at, 16);
    }
  }
  ok("serial-flood");
}
PROGRAM("serial-flood", flood);

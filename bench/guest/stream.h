/*
 * What the vsock guest and its peer on the host (bench/host/peer.c) say to each other. A connection
 * carries phases, each begun by a request of the guest.
 */
#pragma once
#include <stdint.h>

#define STREAM_PORT 5000
#define STREAM_MAGIC 0x6d766d7673743031ul

enum {
  STREAM_SINK = 1,   /* the guest sends `bytes`; the peer answers with a stream_answer */
  STREAM_SOURCE = 2, /* the peer sends `bytes` */
  STREAM_ECHO = 3    /* the peer returns whatever comes, for ever */
};

struct stream_request {
  uint64_t magic, kind, bytes, reserved;
};
struct stream_answer {
  uint64_t bytes, wrong;
};

/* The content: words that repeat after a period, counted from the start of the phase. */
#define STREAM_PERIOD (1ul << 20)
#define STREAM_CHECK_EVERY 512ul /* one word of so many bytes is looked at */

static inline uint64_t stream_word(uint64_t position) {
  return (position % STREAM_PERIOD / 8 + 1) * 0x9e3779b97f4a7c15ul;
}

/* How many of the words looked at are wrong in `size` bytes of the stream from `position` on. */
static inline uint64_t stream_wrong(const void *bytes, uint64_t position, uint64_t size) {
  uint64_t wrong = 0;
  uint64_t at = (position + STREAM_CHECK_EVERY - 1) & ~(STREAM_CHECK_EVERY - 1);
  for (; at + 8 <= position + size; at += STREAM_CHECK_EVERY) {
    uint64_t word;
    __builtin_memcpy(&word, (const char *)bytes + (at - position), 8);
    wrong += word != stream_word(at);
  }
  return wrong;
}

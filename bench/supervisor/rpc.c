/*
 * How many calls of libvirt's protocol a daemon answers on one connection: opens it, looks a domain
 * up and asks DOMAIN_GET_INFO for a time, with some calls under way at once. rpc SOCKET URI DOMAIN
 * MILLISECONDS WINDOW     prints {"rate": calls a second}
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { kProgram = 0x20008086, kVersion = 1, kHeader = 28, kUuid = 16, kMaxMessage = 1 << 16 };
enum { kOpen = 1, kGetInfo = 16, kLookupByName = 23, kAuthList = 66 };

static void fail(const char *what) {
  fprintf(stderr, "rpc: %s: %s\n", what, strerror(errno));
  exit(1);
}

static size_t put_word(unsigned char *at, uint32_t value) {
  const uint32_t word = htonl(value);
  memcpy(at, &word, sizeof word);
  return sizeof word;
}

static uint32_t get_word(const unsigned char *at) {
  uint32_t word;
  memcpy(&word, at, sizeof word);
  return ntohl(word);
}

static size_t put_string(unsigned char *at, const char *text) {
  const size_t length = strlen(text);
  const size_t padded = (length + 3) / 4 * 4;
  put_word(at, (uint32_t)length);
  memset(at + 4, 0, padded);
  memcpy(at + 4, text, length);
  return 4 + padded;
}

/* The header in front of what is at `message + kHeader`; returns the whole length. */
static size_t put_header(unsigned char *message, uint32_t procedure, uint32_t serial,
                         size_t payload) {
  const uint32_t words[] = {
      (uint32_t)(kHeader + payload), kProgram, kVersion, procedure, 0, serial, 0};
  for (size_t i = 0; i < sizeof words / sizeof *words; ++i) put_word(message + 4 * i, words[i]);
  return kHeader + payload;
}

static void write_all(int fd, const unsigned char *bytes, size_t length) {
  while (length > 0) {
    const ssize_t written = write(fd, bytes, length);
    if (written <= 0) fail("write");
    bytes += written;
    length -= (size_t)written;
  }
}

static unsigned char received[kMaxMessage];
static size_t received_size;

/* Reads until a whole message is there. */
static size_t next_message(int fd) {
  for (;;) {
    if (received_size >= 4) {
      const uint32_t length = get_word(received);
      if (length < kHeader || length > sizeof received) fail("a message of that length");
      if (received_size >= length) return length;
    }
    const ssize_t count = read(fd, received + received_size, sizeof received - received_size);
    if (count <= 0) fail("read");
    received_size += (size_t)count;
  }
}

static void drop_message(size_t length) {
  received_size -= length;
  memmove(received, received + length, received_size);
}

static void check(const char *what) {
  if (get_word(received + 24) != 0) {
    fprintf(stderr, "rpc: %s was refused: %.*s\n", what, 200,
            (const char *)received + kHeader + 16);
    exit(1);
  }
}

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Writes so many calls at once. */
static void send_calls(int fd, const unsigned char *call, size_t size, unsigned count) {
  static unsigned char batch[kMaxMessage];
  size_t filled = 0;
  while (count-- > 0) {
    if (filled + size > sizeof batch) {
      write_all(fd, batch, filled);
      filled = 0;
    }
    memcpy(batch + filled, call, size);
    filled += size;
  }
  write_all(fd, batch, filled);
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  const double seconds = atoi(argv[4]) / 1000.0;
  const unsigned window = (unsigned)atoi(argv[5]);
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail(argv[1]);

  unsigned char message[1024];
  write_all(fd, message, put_header(message, kAuthList, 0, 0));
  drop_message(next_message(fd));
  size_t at = kHeader + put_word(message + kHeader, 1);
  at += put_string(message + at, argv[2]);
  at += put_word(message + at, 0);
  write_all(fd, message, put_header(message, kOpen, 1, at - kHeader));
  const size_t opened = next_message(fd);
  check("open");
  drop_message(opened);
  at = kHeader + put_string(message + kHeader, argv[3]);
  write_all(fd, message, put_header(message, kLookupByName, 2, at - kHeader));
  const size_t found = next_message(fd);
  check("the lookup");

  /* What is answered is what GET_INFO takes. */
  memcpy(message + kHeader, received + kHeader, found - kHeader);
  drop_message(found);
  const size_t size = put_header(message, kGetInfo, 3, found - kHeader);
  const double begin = now();
  const double end = begin + seconds;
  unsigned long answered = 0;
  unsigned under_way = window;
  send_calls(fd, message, size, window);
  unsigned due = 0;
  while (under_way > 0) {
    const size_t length = next_message(fd);
    check("GET_INFO");
    drop_message(length);
    ++answered;
    --under_way;
    ++due;
    /* In halves, so that neither side waits for the other. */
    if (due >= (window + 1) / 2 && now() < end) {
      send_calls(fd, message, size, due);
      under_way += due;
      due = 0;
    }
  }
  printf("{\"rate\": %.0f}\n", (double)answered / (now() - begin));
  return 0;
}

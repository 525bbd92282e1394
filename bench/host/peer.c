#include "peer.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../guest/stream.h"

enum { kChunk = 1 << 16 };

static char content[STREAM_PERIOD + kChunk];

void fill_content(void) {
  for (uint64_t at = 0; at < sizeof content; at += 8) {
    const uint64_t word = stream_word(at);
    memcpy(content + at, &word, 8);
  }
}

uint64_t sink_stream(int fd, uint64_t bytes) {
  static char buffer[kChunk];
  uint64_t wrong = 0;
  for (uint64_t position = 0; position < bytes;) {
    const uint64_t left = bytes - position;
    const ssize_t length = read(fd, buffer, left < sizeof buffer ? left : sizeof buffer);
    if (length < 0 && errno == EINTR) continue;
    if (length <= 0) return ~0ul;
    wrong += stream_wrong(buffer, position, (uint64_t)length);
    position += (uint64_t)length;
  }
  return wrong;
}

void source_stream(int fd, uint64_t bytes, size_t packet) {
  for (uint64_t position = 0; position < bytes;) {
    const uint64_t left = bytes - position;
    const size_t length = left < packet ? left : packet;
    write_all(fd, content + position % STREAM_PERIOD, length);
    position += length;
  }
}

static void echo(int fd) {
  char buffer[kChunk];
  for (ssize_t length; (length = read(fd, buffer, sizeof buffer)) > 0;)
    write_all(fd, buffer, (size_t)length);
}

static void serve(int fd) {
  struct stream_request request;
  while (read_exactly(fd, &request, sizeof request) && request.magic == STREAM_MAGIC) {
    if (request.kind == STREAM_ECHO) echo(fd);
    if (request.kind == STREAM_SOURCE) source_stream(fd, request.bytes, kChunk);
    if (request.kind != STREAM_SINK) continue;
    const struct stream_answer answer = {request.bytes, sink_stream(fd, request.bytes)};
    write_all(fd, &answer, sizeof answer);
  }
  close(fd);
}

void start_peer(const char* path, unsigned cpu) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s_%d", path, STREAM_PORT);
  const int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (listener < 0 || bind(listener, (struct sockaddr*)&address, sizeof address) != 0 ||
      listen(listener, 4) != 0)
    fail_errno(address.sun_path);
  const pid_t child = fork();
  if (child < 0) fail_errno("fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_IGN);
    pin_thread(0, cpu);
    fill_content();
    for (int fd; (fd = accept(listener, NULL, NULL)) >= 0;) serve(fd);
    _exit(1);
  }
  close(listener);
}

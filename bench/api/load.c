/*
 * Asks one endpoint of a VMM's API over and over again, on kept connections, each of which has one
 * request under way. One more connection changes the VM meanwhile: in this process, because another
 * one would take its CPU from those that are measured.
 *
 *   load SOCKET PATH CLIENTS MILLISECONDS [CHANGE...]   with paths of what changes the VM, which
 * are asked for in turn. Prints {"requests":N,"rate":N,"p50":N,"p99":N,"max":N,"changes":N}, times
 * in microseconds
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum {
  kMaxClients = 1024,
  kAnswerSize = 1 << 16,
  kEvents = 64,
  kTick = 100, /* milliseconds that a wait takes at most */
  kMaxSamples = 1 << 24,
};

struct request {
  char text[1024];
  size_t length;
};

struct client {
  int fd;
  uint64_t sent_at;
  size_t received;
  char answer[kAnswerSize];
};

static struct client *clients;
static struct request question;
static struct client changer;
static struct request *changes;
static size_t change_count; /* kinds of them */
static size_t changes_asked;
static size_t changes_done;
static int stopping;
static uint32_t *samples; /* nanoseconds */
static size_t sample_count;

static void fail(const char *what) {
  fprintf(stderr, "load: %s: %s\n", what, errno ? strerror(errno) : "unexpected");
  exit(1);
}

static uint64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int open_connection(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) fail("the socket's path");
  strcpy(address.sun_path, path);
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) fail("socket");
  /* A listener's backlog may be full for a moment. */
  while (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
    if (errno != EAGAIN) fail("connect");
    usleep(1000);
  }
  return fd;
}

static struct request make_request(const char *method, const char *path, const char *more) {
  struct request request;
  const int length =
      snprintf(request.text, sizeof request.text,
               "%s %s HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n%s\r\n", method, path, more);
  if (length >= (int)sizeof request.text) fail("the path");
  request.length = (size_t)length;
  return request;
}

static void ask(struct client *client, const struct request *request) {
  client->received = 0;
  client->sent_at = now();
  errno = 0;
  if (write(client->fd, request->text, request->length) != (ssize_t)request->length) fail("write");
}

/* All of them together leave the VM as it was, so that the next load may begin with the first. */
static void change(void) {
  if (stopping && changes_asked % change_count == 0) return;
  ask(&changer, &changes[changes_asked++ % change_count]);
}

/* Whether all of an answer is there. */
static int is_complete(struct client *client) {
  client->answer[client->received] = '\0';
  const char *end = strstr(client->answer, "\r\n\r\n");
  if (end == NULL) return 0;
  errno = 0;
  if (strncmp(client->answer, client == &changer ? "HTTP/1.1 204 " : "HTTP/1.1 200 ", 13) != 0) {
    fail(client->answer);
  }
  const char *length = strstr(client->answer, "Content-Length: ");
  const int has_body = length != NULL && length < end;
  if (!has_body && client != &changer) fail("the answer has no length");
  const size_t body = has_body ? strtoul(length + 16, NULL, 10) : 0;
  const size_t whole = (size_t)(end + 4 - client->answer) + body;
  if (whole >= kAnswerSize) fail("the answer is too long");
  return client->received >= whole;
}

static void receive(struct client *client) {
  errno = 0;
  const ssize_t count =
      read(client->fd, client->answer + client->received, kAnswerSize - 1 - client->received);
  if (count <= 0) fail("read");
  client->received += (size_t)count;
  if (!is_complete(client)) return;
  if (client == &changer) {
    ++changes_done;
    change();
    return;
  }
  if (sample_count < kMaxSamples) samples[sample_count++] = (uint32_t)(now() - client->sent_at);
  ask(client, &question);
}

static void open_client(struct client *client, const char *socket_path, int epoll) {
  client->fd = open_connection(socket_path);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
  if (epoll_ctl(epoll, EPOLL_CTL_ADD, client->fd, &event) != 0) fail("epoll_ctl");
}

static void open_changer(char **paths, size_t count, const char *socket_path, int epoll) {
  change_count = count;
  changes = calloc(count, sizeof *changes);
  if (changes == NULL) fail("setting up");
  for (size_t i = 0; i < count; ++i) {
    changes[i] = make_request("PUT", paths[i], "Content-Length: 0\r\n");
  }
  open_client(&changer, socket_path, epoll);
}

static int compare(const void *a, const void *b) {
  const uint32_t first = *(const uint32_t *)a;
  const uint32_t second = *(const uint32_t *)b;
  return (first > second) - (first < second);
}

static double microseconds(double fraction) {
  return samples[(size_t)((double)(sample_count - 1) * fraction)] / 1000.0;
}

int main(int argc, char **argv) {
  if (argc < 5) fail("usage: load SOCKET PATH CLIENTS MILLISECONDS [CHANGE...]");
  const int count = atoi(argv[3]);
  const uint64_t duration = strtoull(argv[4], NULL, 10) * 1000000;
  if (count < 1 || count > kMaxClients) fail("the number of clients");
  clients = calloc((size_t)count, sizeof *clients);
  samples = malloc(kMaxSamples * sizeof *samples);
  const int epoll = epoll_create1(EPOLL_CLOEXEC);
  if (clients == NULL || samples == NULL || epoll < 0) fail("setting up");
  question = make_request("GET", argv[2], "");
  for (int i = 0; i < count; ++i) open_client(&clients[i], argv[1], epoll);
  if (argc > 5) open_changer(argv + 5, (size_t)argc - 5, argv[1], epoll);
  const uint64_t start = now();
  for (int i = 0; i < count; ++i) ask(&clients[i], &question);
  if (change_count > 0) change();
  uint64_t time = start;
  while (time - start < duration) {
    struct epoll_event events[kEvents];
    const int ready = epoll_wait(epoll, events, kEvents, kTick);
    if (ready < 0 && errno != EINTR) fail("epoll_wait");
    for (int i = 0; i < ready; ++i) receive(events[i].data.ptr);
    time = now();
  }
  stopping = 1;
  while (changes_done < changes_asked) receive(&changer);
  errno = 0;
  if (sample_count == 0) fail("no answer came");
  qsort(samples, sample_count, sizeof *samples, compare);
  printf(
      "{\"requests\":%zu,\"rate\":%.0f,\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f,\"changes\":%zu}\n",
      sample_count, (double)sample_count * 1e9 / (double)(time - start), microseconds(0.5),
      microseconds(0.99), microseconds(1), changes_done);
  return 0;
}

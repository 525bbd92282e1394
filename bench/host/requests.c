/*
 * Requests to a VMM's API, one after the other on one connection, each timed from its first byte to
 * the last of its answer.
 */
#include "requests.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { kMaxRequest = 8192, kMaxAnswer = 1 << 16 };

static int connect_to(const char* path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) fail("the path of a socket is too long: %s", path);
  strcpy(address.sun_path, path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || connect(fd, (struct sockaddr*)&address, sizeof address) != 0) fail_errno(path);
  return fd;
}

/* The length that a head of HTTP gives the body, 0 if it gives none. */
static size_t body_length(const char* head) {
  const char* field = strcasestr(head, "\r\nContent-Length:");
  return field == NULL ? 0 : strtoul(field + strlen("\r\nContent-Length:"), NULL, 10);
}

/* Reads one answer; its status. */
static unsigned hear_answer(int fd, char* answer) {
  size_t length = 0;
  for (;;) {
    const ssize_t count = read(fd, answer + length, kMaxAnswer - 1 - length);
    if (count <= 0) fail("the connection ended within an answer");
    length += (size_t)count;
    answer[length] = 0;
    const char* end = strstr(answer, "\r\n\r\n");
    if (end != NULL && length >= (size_t)(end + 4 - answer) + body_length(answer)) break;
    if (length == kMaxAnswer - 1) fail("an answer is too long");
  }
  unsigned status = 0;
  if (sscanf(answer, "HTTP/1.1 %u", &status) != 1) fail("this is no answer: %.40s", answer);
  return status;
}

static void ask(int fd, char* line) {
  static char request[kMaxRequest], answer[kMaxAnswer];
  char* body = strchr(line, ' ');
  if (body == NULL) fail("a request is ENDPOINT BODY, not %s", line);
  *body++ = 0;
  const int size = snprintf(request, sizeof request,
                            "PUT /api/v1/%s HTTP/1.1\r\nHost: localhost\r\nContent-Type: "
                            "application/json\r\nContent-Length: %zu\r\n\r\n%s",
                            line, strlen(body), body);
  if (size >= kMaxRequest) fail("a request is too long");
  const uint64_t begin = now_ns();
  write_all(fd, request, (size_t)size);
  const unsigned status = hear_answer(fd, answer);
  printf("answer %u %lu\n", status, now_ns() - begin);
  if (status < 300) return;
  printf("refused %s: %s\n", line, strstr(answer, "\r\n\r\n") + 4);
}

void ask_all(const char* socket_path, const char* requests, unsigned gap_ms) {
  FILE* file = fopen(requests, "re");
  if (file == NULL) fail_errno(requests);
  const int fd = connect_to(socket_path);
  char line[kMaxRequest];
  while (fgets(line, sizeof line, file) != NULL) {
    line[strcspn(line, "\n")] = 0;
    ask(fd, line);
    usleep(gap_ms * 1000);
  }
  fclose(file);
  close(fd);
}

void start_asking(const char* socket_path, const char* requests, unsigned gap_ms) {
  fflush(stdout);
  const pid_t child = fork();
  if (child < 0) fail_errno("fork");
  if (child > 0) return;
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  ask_all(socket_path, requests, gap_ms);
  printf("asked\n");
  fflush(stdout);
  _exit(0);
}

int command_ask(char** argv) {
  const char* socket_path = option(argv, "--api", NULL);
  const char* requests = option(argv, "--requests", NULL);
  if (socket_path == NULL || requests == NULL) fail("ask --api SOCKET --requests FILE");
  ask_all(socket_path, requests, (unsigned)option_number(argv, "--gap", 0));
  return 0;
}

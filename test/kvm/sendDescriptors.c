/*
 * Sends a request from standard input to a UNIX socket, together with descriptors of /dev/null
 * (SCM_RIGHTS), and prints the answer.
 *
 *   sendDescriptors SOCKET COUNT BYTES   the first BYTES bytes carry COUNT descriptors
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { kMaxDescriptors = 253, kMaxRequest = 1 << 16 };

static void fail(const char *what) {
  perror(what);
  exit(1);
}

int main(int argc, char **argv) {
  if (argc != 4) return 2;
  const int count = atoi(argv[2]);
  if (count < 1 || count > kMaxDescriptors) return 2;
  static char request[kMaxRequest];
  const ssize_t length = read(0, request, sizeof request);
  if (length <= 0) fail("reading the request");
  ssize_t first = atoi(argv[3]);
  if (first > length) first = length;

  struct sockaddr_un address = {.sun_family = AF_UNIX};
  strncpy(address.sun_path, argv[1], sizeof address.sun_path - 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");

  _Alignas(struct cmsghdr) char control[CMSG_SPACE(kMaxDescriptors * sizeof(int))] = {0};
  struct iovec vector = {.iov_base = request, .iov_len = (size_t)first};
  struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control};
  message.msg_controllen = CMSG_SPACE((size_t)count * sizeof(int));
  struct cmsghdr *header = CMSG_FIRSTHDR(&message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN((size_t)count * sizeof(int));
  const int null = open("/dev/null", O_RDONLY);
  for (int i = 0; i < count; ++i)
    memcpy(CMSG_DATA(header) + (size_t)i * sizeof null, &null, sizeof null);
  if (sendmsg(fd, &message, 0) != first) fail("sendmsg");
  if (first < length && write(fd, request + first, (size_t)(length - first)) != length - first)
    fail("write");
  shutdown(fd, SHUT_WR);
  for (ssize_t received; (received = read(fd, request, sizeof request)) > 0;) {
    if (write(1, request, (size_t)received) != received) fail("printing");
  }
  return 0;
}

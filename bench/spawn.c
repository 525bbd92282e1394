/*
 * Runs one program and takes the times that matter to a start-up benchmark, as exactly as user
 * space can: the clock is read in the child right before exec, after every read of its standard
 * output, and when its process is gone.
 *
 *   spawn TIMEOUT_MS PROGRAM [ARGUMENT...]
 *
 * The program's standard input is /dev/null, its standard output a pipe to here, its standard error
 * ours. Nothing is printed before it has ended; then, one a line, with times in nanoseconds of
 * CLOCK_MONOTONIC:
 *
 *   exec TIME
 *   data TIME BYTES_IN_HEX                 for every piece that was read
 *   exit TIME WAIT_STATUS USER_US SYSTEM_US
 *
 * Both run with real-time priority if we may set it (root), so that other load on the host matters
 * less. A program that outlives TIMEOUT_MS is killed, which its wait status shows. Exit
 * code 2: could not run it.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { kMaxChunks = 4096, kMaxBytes = 1 << 20 };

struct chunk {
  int64_t time;
  size_t offset, length;
};

static struct chunk chunks[kMaxChunks];
static size_t chunk_count;
static unsigned char bytes[kMaxBytes];
static size_t byte_count;

static int64_t now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static void fail(const char* what) {
  fprintf(stderr, "spawn: %s: %s\n", what, strerror(errno));
  exit(2);
}

/*
 * A wish: whoever may not do so measures as is. Without it, on a host with other work to do, the
 * threads of a VMM wait for the processor rather than for one another, and the figures tell of that
 * work only.
 */
static void prefer_this_process(void) {
  const struct sched_param lowest = {.sched_priority = 1};
  if (sched_setscheduler(0, SCHED_RR, &lowest) != 0) errno = 0;
}

/* Returns 0 at the end of the output, -1 if there is nothing to read now. */
static ssize_t take_output(int fd, int64_t time) {
  static unsigned char overflow[4096];
  const int full = chunk_count == kMaxChunks || byte_count == kMaxBytes;
  const ssize_t length = full ? read(fd, overflow, sizeof overflow)
                              : read(fd, bytes + byte_count, kMaxBytes - byte_count);
  if (length <= 0 || full) return length;
  chunks[chunk_count++] = (struct chunk){time, byte_count, (size_t)length};
  byte_count += (size_t)length;
  return length;
}

static void print_record(int64_t exec_time, int64_t exit_time, int status,
                         const struct rusage* usage) {
  printf("exec %lld\n", (long long)exec_time);
  for (size_t i = 0; i < chunk_count; i++) {
    printf("data %lld ", (long long)chunks[i].time);
    for (size_t j = 0; j < chunks[i].length; j++) printf("%02x", bytes[chunks[i].offset + j]);
    putchar('\n');
  }
  printf("exit %lld %d %lld %lld\n", (long long)exit_time, status,
         (long long)usage->ru_utime.tv_sec * 1000000 + usage->ru_utime.tv_usec,
         (long long)usage->ru_stime.tv_sec * 1000000 + usage->ru_stime.tv_usec);
}

int main(int argc, char** argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: spawn TIMEOUT_MS PROGRAM [ARGUMENT...]\n");
    return 2;
  }
  const int64_t timeout = strtoll(argv[1], NULL, 10) * 1000000;
  const int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
  int output[2];
  if (input < 0 || pipe2(output, O_CLOEXEC) != 0) fail("pipe");
  prefer_this_process();
  memset(bytes, 1, sizeof bytes); /* fault the pages in now, not while a time is taken */

  /* The child borrows our memory until it execs, so what it writes here we read. */
  volatile int64_t exec_time = 0;
  volatile int exec_errno = 0;
  const pid_t child = vfork();
  if (child < 0) fail("vfork");
  if (child == 0) {
    dup2(input, 0);
    dup2(output[1], 1);
    exec_time = now();
    execv(argv[2], argv + 2);
    exec_errno = errno;
    _exit(127);
  }
  if (exec_errno != 0) {
    errno = exec_errno;
    fail(argv[2]);
  }
  close(output[1]);
  const int process = (int)syscall(SYS_pidfd_open, child, 0);
  if (process < 0) fail("pidfd_open");

  struct pollfd polled[2] = {{output[0], POLLIN, 0}, {process, POLLIN, 0}};
  int64_t exit_time = 0;
  while (exit_time == 0) {
    const int64_t left = exec_time + timeout - now();
    if (poll(polled, 2, left > 0 ? (int)(left / 1000000) + 1 : 0) < 0 && errno != EINTR)
      fail("poll");
    const int64_t time = now();
    if (polled[0].revents != 0 && take_output(output[0], time) == 0) polled[0].fd = -1;
    if (polled[1].revents != 0) exit_time = time;
    if (exit_time == 0 && time > exec_time + timeout) kill(child, SIGKILL);
  }
  fcntl(output[0], F_SETFL, O_NONBLOCK);
  while (take_output(output[0], exit_time) > 0) {
  }
  int status = 0;
  struct rusage usage;
  if (wait4(child, &status, 0, &usage) != child) fail("wait4");
  print_record(exec_time, exit_time, status, &usage);
  return 0;
}

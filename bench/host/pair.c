/*
 * What a UNIX socket pair carries, without any VM: the vsock guest's stream between two processes
 * on two CPUs. Speaks as the measuring guest does, so that `run` can run it.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "peer.h"

static void say(const char* line) {
  const struct timespec pause = {.tv_nsec = 3000000};
  puts(line);
  fflush(stdout);
  nanosleep(&pause, NULL);
}

int command_pair(char** argv) {
  const uint64_t bytes = option_number(argv, "--bytes", 1ul << 30);
  const uint64_t packet = option_number(argv, "--packet", 1 << 16);
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) fail_errno("socketpair");
  fill_content();
  const pid_t child = fork();
  if (child < 0) fail_errno("fork");
  if (child == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    pin_thread(0, (unsigned)option_number(argv, "--guest-cpu", 0));
    source_stream(pair[1], bytes / 8, packet);
    source_stream(pair[1], bytes, packet);
    pause();
  }
  uint64_t wrong = sink_stream(pair[0], bytes / 8);
  say("begin");
  const uint64_t begin = read_tsc();
  wrong += sink_stream(pair[0], bytes);
  const uint64_t cycles = read_tsc() - begin;
  say("end");
  printf("result ops=%lu bytes=%lu cycles=%lu kicks=0\n", bytes / packet, bytes, cycles);
  printf("%s socket-pair\ndone 1\n", wrong == 0 ? "ok" : "not ok");
  kill(child, SIGKILL);
  return 0;
}

/*
 * Runs a VMM with the measuring guest in it (bench/guest/measure.h) and reads what it costs.
 *
 *   run [--timeout MS] [--vcpu PREFIX] [--guest-cpu N] [--host-cpu N] [--exits 1] [--shell COMMAND]
 *       [--vsock PATH] [--api SOCKET --requests FILE --gap MS]
 *       -- PROGRAM [ARGUMENT...]
 *
 * --requests are sent while the guest measures (requests.h), MS after one another. Threads named
 * PREFIX... go to the guest's CPU, everything else to the host's. --exits counts
 * exits, which costs time. With --shell, the VMM gets a network namespace of its own, set up by the
 * command; `net` lines tell what its interfaces have counted.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "exits.h"
#include "host.h"
#include "peer.h"
#include "requests.h"
#include "sample.h"

enum { kMaxLine = 4096, kExitGraceMs = 2000 };

struct run {
  pid_t process;
  const char* vcpu_prefix;
  unsigned guest_cpu;
  struct sample begin, end, rest, rested;
  char line[kMaxLine];
  size_t line_length;
  bool done, count_exits;
  const char *api, *requests;
  unsigned gap_ms;
};

static pid_t start(char** program, int output, unsigned cpu) {
  const pid_t child = fork();
  if (child < 0) fail_errno("fork");
  if (child > 0) return child;
  const int input = open("/dev/null", O_RDONLY);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  pin_thread(0, cpu);
  dup2(input, 0);
  dup2(output, 1);
  execv(program[0], program);
  perror(program[0]);
  _exit(127);
}

static void pin_vcpus(const struct run* run) {
  struct sample sample;
  take_sample(&sample, run->process, run->vcpu_prefix);
  unsigned found = 0;
  for (size_t i = 0; i < sample.thread_count; i++) {
    if (!sample.threads[i].is_vcpu) continue;
    pin_thread(sample.threads[i].thread, run->guest_cpu);
    found++;
  }
  printf("vcpus %u\n", found);
}

static void hear_line(struct run* run) {
  const char* line = run->line;
  if (strcmp(line, "ready") == 0) pin_vcpus(run);
  if (strcmp(line, "begin") == 0) {
    take_sample(&run->begin, run->process, run->vcpu_prefix);
    if (run->count_exits) start_counting_exits(&run->begin);
    if (run->requests != NULL) start_asking(run->api, run->requests, run->gap_ms);
  }
  if (strcmp(line, "end") == 0) {
    take_sample(&run->end, run->process, run->vcpu_prefix);
    print_exits();
  }
  if (strcmp(line, "rest") == 0) take_sample(&run->rest, run->process, run->vcpu_prefix);
  if (strcmp(line, "rested") == 0) take_sample(&run->rested, run->process, run->vcpu_prefix);
  if (strncmp(line, "done ", 5) == 0) run->done = true;
  printf("guest %s\n", line);
}

/* False when there is nothing to read any more. */
static bool hear(struct run* run, int output) {
  char bytes[4096];
  const ssize_t length = read(output, bytes, sizeof bytes);
  if (length <= 0) return length < 0 && (errno == EAGAIN || errno == EINTR);
  for (ssize_t i = 0; i < length; i++) {
    if (bytes[i] == '\r') continue;
    if (bytes[i] != '\n' && run->line_length < kMaxLine - 1) {
      run->line[run->line_length++] = bytes[i];
      continue;
    }
    run->line[run->line_length] = 0;
    run->line_length = 0;
    hear_line(run);
  }
  return true;
}

static uint64_t deadline_left_ms(uint64_t deadline) {
  const uint64_t now = now_ns();
  return now >= deadline ? 0 : (deadline - now) / 1000000 + 1;
}

/* Until the process has ended; returns its wait status. */
static int converse(struct run* run, int output, uint64_t timeout_ms) {
  const int process = (int)syscall(SYS_pidfd_open, run->process, 0);
  if (process < 0) fail_errno("pidfd_open");
  struct pollfd polled[2] = {{output, POLLIN, 0}, {process, POLLIN, 0}};
  uint64_t deadline = now_ns() + timeout_ms * 1000000;
  bool was_done = false;
  while (polled[1].revents == 0) {
    if (poll(polled, 2, (int)deadline_left_ms(deadline)) < 0 && errno != EINTR) fail_errno("poll");
    if (polled[0].revents != 0 && !hear(run, output)) polled[0].fd = -1;
    if (run->done && !was_done) deadline = now_ns() + kExitGraceMs * 1000000ul;
    was_done = run->done;
    if (polled[1].revents == 0 && now_ns() >= deadline) {
      printf("killed %s\n", run->done ? "after the guest was done" : "by the time limit");
      kill(run->process, SIGKILL);
      deadline = now_ns() + kExitGraceMs * 1000000ul;
    }
  }
  fcntl(output, F_SETFL, O_NONBLOCK);
  while (polled[0].fd >= 0 && hear(run, output) && errno != EAGAIN) {
  }
  int status = 0;
  if (waitpid(run->process, &status, 0) != run->process) fail_errno("waitpid");
  return status;
}

static void print_interfaces(void) {
  FILE* file = fopen("/proc/self/net/dev", "re");
  char line[512], name[32];
  uint64_t rx_packets, rx_dropped, tx_packets, tx_dropped;
  while (file != NULL && fgets(line, sizeof line, file) != NULL) {
    if (sscanf(line, " %31[^:]: %*u %lu %*u %lu %*u %*u %*u %*u %*u %lu %*u %lu", name, &rx_packets,
               &rx_dropped, &tx_packets, &tx_dropped) == 5)
      printf("net %s %lu %lu %lu %lu\n", name, rx_packets, rx_dropped, tx_packets, tx_dropped);
  }
  if (file != NULL) fclose(file);
}

int command_run(char** argv) {
  static struct run run;
  char** program = argv;
  while (*program != NULL && strcmp(*program, "--") != 0) program++;
  if (program[0] == NULL || program[1] == NULL) fail("run OPTIONS -- PROGRAM");
  const char* shell = option(argv, "--shell", NULL);
  const unsigned host_cpu = (unsigned)option_number(argv, "--host-cpu", 1);
  run.guest_cpu = (unsigned)option_number(argv, "--guest-cpu", 0);
  run.vcpu_prefix = option(argv, "--vcpu", "vcpu");
  run.count_exits = option_number(argv, "--exits", 0) != 0;
  run.api = option(argv, "--api", "");
  run.requests = option(argv, "--requests", NULL);
  run.gap_ms = (unsigned)option_number(argv, "--gap", 0);
  /* Whoever started this may be killed; then nobody waits for the VMM. */
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  steady_host();
  if (run.count_exits) prepare_counting_exits();
  if (shell != NULL) {
    if (unshare(CLONE_NEWNET) != 0) fail_errno("a network namespace");
    if (system(shell) != 0) fail("failed: %s", shell);
  }
  pin_thread(0, host_cpu);
  const char* vsock = option(argv, "--vsock", NULL);
  if (vsock != NULL) start_peer(vsock, host_cpu);
  int output[2];
  if (pipe2(output, O_CLOEXEC) != 0) fail_errno("pipe");
  const uint64_t tsc = read_tsc(), time = now_ns();
  run.process = start(program + 1, output[1], host_cpu);
  close(output[1]);
  const int status = converse(&run, output[0], option_number(argv, "--timeout", 30000));
  printf("tsc-mhz %.3f\n", (double)(read_tsc() - tsc) * 1000 / (double)(now_ns() - time));
  if (run.end.time_ns != 0) print_usage(&run.begin, &run.end);
  if (run.rested.time_ns != 0) print_rest(&run.rest, &run.rested);
  if (shell != NULL) print_interfaces();
  printf("status %d\n", status);
  return 0;
}

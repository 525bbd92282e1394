/*
 * The init process of the lab host and of its guests: runs commands for the outside over one
 * virtio-serial port, console or serial port, many at a time.
 *
 * The agent begins with a greeting. A frame in either direction is three little-endian 32-bit
 * numbers (job, type, length), then `length` bytes. agentLink.mjs holds the other end. Also a
 * client: `agent connect PATH` joins a UNIX socket to stdin and stdout.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum { kMaxJobs = 32, kMaxPayload = 65536, kMaxWords = 512 };

enum frame_type {
  kRun = 1, /* to the agent: flags, rows, columns, then words ended by NUL: folder, environment, "",
               command */
  kStdin = 2,    /* to the agent: bytes; none at all means end of file */
  kSignal = 3,   /* to the agent: number, sent to the job's process group */
  kResize = 4,   /* to the agent: rows, columns */
  kPowerOff = 5, /* to the agent */
  kPing = 6,     /* to the agent, which answers with the same */
  kStdout = 17,
  kStderr = 18,
  kExit = 19, /* from the agent: exit code, or 128 and the signal's number */
};

/*
 * Tells the other end that frames begin here: a kernel may have printed before, and a guest that
 * was reset may have died in the middle of a frame.
 */
static const char greeting[] = "\x7f\x01lab agent 5bb34ad7 is up\n";

struct frame {
  uint32_t job, type, length;
};

struct job {
  uint32_t id;
  pid_t pid;
  int in, out, err; /* our ends; -1 when closed */
  int is_terminal;
  char *pending; /* input that the job has not taken yet */
  size_t pending_length;
  int input_ended;
};

static struct job jobs[kMaxJobs];
static int port = -1;

static void write_all(int fd, const void *bytes, size_t length) {
  const char *at = bytes;
  while (length > 0) {
    ssize_t done = write(fd, at, length);
    if (done < 0 && (errno == EINTR || errno == EAGAIN)) {
      struct pollfd wait = {.fd = fd, .events = POLLOUT};
      poll(&wait, 1, 100);
      continue;
    }
    if (done <= 0) return;
    at += done;
    length -= (size_t)done;
  }
}

static int read_all(int fd, void *bytes, size_t length) {
  char *at = bytes;
  while (length > 0) {
    ssize_t done = read(fd, at, length);
    if (done < 0 && (errno == EINTR || errno == EAGAIN)) {
      struct pollfd wait = {.fd = fd, .events = POLLIN};
      poll(&wait, 1, 100);
      continue;
    }
    if (done <= 0) return -1;
    at += done;
    length -= (size_t)done;
  }
  return 0;
}

static void send_frame(uint32_t id, uint32_t type, const void *payload, uint32_t length) {
  struct frame frame = {id, type, length};
  write_all(port, &frame, sizeof frame);
  write_all(port, payload, length);
}

static void close_end(int *fd) {
  if (*fd >= 0) close(*fd);
  *fd = -1;
}

static struct job *find_job(uint32_t id) {
  for (int i = 0; i < kMaxJobs; i++) {
    if (jobs[i].pid != 0 && jobs[i].id == id) return &jobs[i];
  }
  return NULL;
}

static void send_exit(uint32_t id, uint32_t code) { send_frame(id, kExit, &code, sizeof code); }

static void fail_job(uint32_t id, const char *why) {
  send_frame(id, kStderr, why, (uint32_t)strlen(why));
  send_exit(id, 127);
}

/* In the child. `words`: folder, NAME=VALUE..., "", command... */
static void become(char **words) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  signal(SIGPIPE, SIG_DFL);
  int at = 0;
  if (chdir(words[at]) != 0) {
    fprintf(stderr, "lab: cannot enter %s: %s\n", words[at], strerror(errno));
    _exit(126);
  }
  for (at++; words[at] && words[at][0]; at++) putenv(words[at]);
  if (!words[at] || !words[++at]) _exit(127);
  execvp(words[at], words + at);
  fprintf(stderr, "lab: cannot run %s: %s\n", words[at], strerror(errno));
  _exit(errno == ENOENT ? 127 : 126);
}

static pid_t start_on_terminal(struct job *job, char **words, const uint32_t *size) {
  struct winsize window = {.ws_row = (unsigned short)size[0], .ws_col = (unsigned short)size[1]};
  int master;
  pid_t pid = forkpty(&master, NULL, NULL, &window);
  if (pid == 0) become(words);
  if (pid < 0) return pid;
  fcntl(master, F_SETFD, FD_CLOEXEC);
  job->out = master;
  job->in = dup(master);
  fcntl(job->in, F_SETFD, FD_CLOEXEC);
  return pid;
}

static pid_t start_on_pipes(struct job *job, char **words) {
  int in[2], out[2], err[2];
  if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
    return -1;
  pid_t pid = fork();
  if (pid == 0) {
    setsid();
    dup2(in[0], 0);
    dup2(out[1], 1);
    dup2(err[1], 2);
    become(words);
  }
  close(in[0]);
  close(out[1]);
  close(err[1]);
  job->in = in[1];
  job->out = out[0];
  job->err = err[0];
  return pid;
}

static void start_job(uint32_t id, char *payload, uint32_t length) {
  uint32_t head[3];
  struct job *job = NULL;
  for (int i = 0; i < kMaxJobs && !job; i++) {
    if (jobs[i].pid == 0) job = &jobs[i];
  }
  if (!job || length < sizeof head || payload[length - 1] != 0) {
    fail_job(id, "lab: too many jobs, or no command\n");
    return;
  }
  memcpy(head, payload, sizeof head);
  char *words[kMaxWords];
  int count = 0;
  for (char *at = payload + sizeof head; at < payload + length && count < kMaxWords - 1;
       at += strlen(at) + 1) {
    words[count++] = at;
  }
  words[count] = NULL;
  if (count < 2) {
    fail_job(id, "lab: no command\n");
    return;
  }
  *job = (struct job){.id = id, .in = -1, .out = -1, .err = -1, .is_terminal = head[0] & 1};
  pid_t pid =
      job->is_terminal ? start_on_terminal(job, words, head + 1) : start_on_pipes(job, words);
  if (pid < 0) {
    fail_job(id, "lab: cannot start a process\n");
    return;
  }
  job->pid = pid;
  fcntl(job->in, F_SETFL, O_NONBLOCK);
  fcntl(job->out, F_SETFL, O_NONBLOCK);
  if (job->err >= 0) fcntl(job->err, F_SETFL, O_NONBLOCK);
}

/* Hands the job what it will take of its input. */
static void feed(struct job *job) {
  while (job->in >= 0 && job->pending_length > 0) {
    ssize_t done = write(job->in, job->pending, job->pending_length);
    if (done < 0 && errno == EAGAIN) return;
    if (done <= 0) {
      job->pending_length = 0;
      close_end(&job->in);
      return;
    }
    job->pending_length -= (size_t)done;
    memmove(job->pending, job->pending + done, job->pending_length);
  }
  if (!job->input_ended || job->in < 0) return;
  if (job->is_terminal) write_all(job->in, "\x04", 1);
  close_end(&job->in);
}

static void queue_input(struct job *job, const char *bytes, uint32_t length) {
  if (length == 0) job->input_ended = 1;
  char *grown = realloc(job->pending, job->pending_length + length + 1);
  if (!grown) return;
  job->pending = grown;
  memcpy(grown + job->pending_length, bytes, length);
  job->pending_length += length;
  feed(job);
}

/* Sends on what the job printed. False at the end of it. */
static int forward(struct job *job, int *fd, uint32_t type) {
  static char bytes[kMaxPayload];
  ssize_t got = read(*fd, bytes, sizeof bytes);
  if (got > 0) {
    send_frame(job->id, type, bytes, (uint32_t)got);
    return 1;
  }
  if (got == 0 || errno != EAGAIN) close_end(fd);
  return 0;
}

static void drain(struct job *job) {
  while (job->out >= 0 && forward(job, &job->out, kStdout)) {
  }
  while (job->err >= 0 && forward(job, &job->err, kStderr)) {
  }
}

static void reap(void) {
  int status;
  pid_t pid;
  while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
    for (int i = 0; i < kMaxJobs; i++) {
      struct job *job = &jobs[i];
      if (job->pid != pid) continue;
      /* What it printed before it ended is in the pipes by now; a child it left behind does not
       * hold us up. */
      drain(job);
      close_end(&job->in);
      close_end(&job->out);
      close_end(&job->err);
      free(job->pending);
      send_exit(job->id, WIFEXITED(status) ? (uint32_t)WEXITSTATUS(status)
                                           : 128 + (uint32_t)WTERMSIG(status));
      *job = (struct job){.in = -1, .out = -1, .err = -1};
    }
  }
}

static void power_off(void) {
  sync();
  reboot(RB_POWER_OFF);
  _exit(1);
}

static void handle_frame(void) {
  static char payload[kMaxPayload + 1];
  struct frame frame;
  if (read_all(port, &frame, sizeof frame) != 0 || frame.length > kMaxPayload ||
      read_all(port, payload, frame.length) != 0) {
    power_off();
  }
  struct job *job = find_job(frame.job);
  if (frame.type == kPowerOff) power_off();
  if (frame.type == kPing) send_frame(0, kPing, NULL, 0);
  if (frame.type == kRun) start_job(frame.job, payload, frame.length);
  if (frame.type == kStdin && job) queue_input(job, payload, frame.length);
  if (frame.type == kSignal && job && frame.length == 4) {
    int number;
    memcpy(&number, payload, sizeof number);
    kill(-job->pid, number);
  }
  if (frame.type == kResize && job && job->is_terminal && job->out >= 0 && frame.length == 8) {
    uint32_t size[2];
    memcpy(size, payload, sizeof size);
    struct winsize window = {.ws_row = (unsigned short)size[0], .ws_col = (unsigned short)size[1]};
    ioctl(job->out, TIOCSWINSZ, &window);
  }
}

static void on_child(int number) { (void)number; }

static void serve(void) {
  sigset_t children, none;
  sigemptyset(&none);
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, NULL);
  struct sigaction action = {.sa_handler = on_child};
  sigaction(SIGCHLD, &action, NULL);
  signal(SIGPIPE, SIG_IGN);
  write_all(port, greeting, sizeof greeting - 1);
  for (;;) {
    struct pollfd waits[1 + 3 * kMaxJobs];
    waits[0] = (struct pollfd){.fd = port, .events = POLLIN};
    for (int i = 0; i < kMaxJobs; i++) {
      struct job *job = &jobs[i];
      int busy = job->pid != 0;
      int feeds = busy && job->pending_length > 0;
      waits[1 + 3 * i] = (struct pollfd){.fd = feeds ? job->in : -1, .events = POLLOUT};
      waits[2 + 3 * i] = (struct pollfd){.fd = busy ? job->out : -1, .events = POLLIN};
      waits[3 + 3 * i] = (struct pollfd){.fd = busy ? job->err : -1, .events = POLLIN};
    }
    /* SIGCHLD comes through only here, so no child is missed between reap and sleep. */
    int ready = ppoll(waits, 1 + 3 * kMaxJobs, NULL, &none);
    for (int i = 0; ready > 0 && i < kMaxJobs; i++) {
      struct job *job = &jobs[i];
      if (waits[1 + 3 * i].revents) feed(job);
      if (waits[2 + 3 * i].revents) forward(job, &job->out, kStdout);
      if (waits[3 + 3 * i].revents) forward(job, &job->err, kStderr);
    }
    reap();
    if (ready > 0 && waits[0].revents) handle_frame();
  }
}

/* A terminal is to pass on every byte as it is. */
static void make_raw(int fd) {
  struct termios settings;
  if (tcgetattr(fd, &settings) != 0) return;
  cfmakeraw(&settings);
  tcsetattr(fd, TCSANOW, &settings);
}

static int connect_to(const char *path) {
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  if (strlen(path) >= sizeof address.sun_path) return 1;
  strcpy(address.sun_path, path);
  int peer = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(peer, (struct sockaddr *)&address, sizeof address) != 0) {
    perror(path);
    return 1;
  }
  static char bytes[kMaxPayload];
  struct pollfd waits[2] = {{.fd = 0, .events = POLLIN}, {.fd = peer, .events = POLLIN}};
  while (poll(waits, 2, -1) > 0) {
    if (waits[0].revents) {
      ssize_t got = read(0, bytes, sizeof bytes);
      if (got > 0) write_all(peer, bytes, (size_t)got);
      if (got <= 0) {
        shutdown(peer, SHUT_WR);
        waits[0].fd = -1;
      }
    }
    if (waits[1].revents) {
      ssize_t got = read(peer, bytes, sizeof bytes);
      if (got <= 0) return 0;
      write_all(1, bytes, (size_t)got);
    }
  }
  return 1;
}

int main(int argc, char **argv) {
  if (argc == 3 && strcmp(argv[1], "connect") == 0) return connect_to(argv[2]);
  if (argc == 3 && strcmp(argv[1], "serve") == 0) {
    port = open(argv[2], O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (port >= 0) make_raw(port);
    if (port >= 0) serve();
    perror(argv[2]);
  }
  return 1;
}

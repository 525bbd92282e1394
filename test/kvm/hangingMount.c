/*
 * Runs a command that finds the files of a folder below a mount whose server can be made to hang, as
 * a FUSE daemon or an NFS server does that is gone. In a mount namespace of its own, so that nothing
 * is left.
 *
 *   hangingMount FOLDER MOUNT VALIDITY HUNG COMMAND...
 *
 * Names and attributes are valid for VALIDITY seconds: the command finds them in the kernel's memory
 * then. The server hangs, by reading no more requests, while the file HUNG is there, which is made
 * just before the command begins; HUNG.waiting says that somebody waits.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { kMaxNames = 64, kMaxTransfer = 1 << 17, kRequest = kMaxTransfer + 4096, kPauseMs = 10 };

static const char *folder;
static const char *hung;
static unsigned long validity;
static int device;
/* Node 1 is the folder, node i + 2 the file names[i]. */
static char *names[kMaxNames];
static size_t count;

static void fail(const char *what) {
  perror(what);
  exit(125);
}

static void write_text(const char *path, const char *text) {
  const int fd = open(path, O_WRONLY | O_CREAT, 0600);
  if (fd < 0 || write(fd, text, strlen(text)) < 0 || close(fd) != 0) fail(path);
}

static int path_of(uint64_t node, char *path, size_t size) {
  if (node < 1 || node > count + 1) return -ESTALE;
  const char *name = node == 1 ? "." : names[node - 2];
  return snprintf(path, size, "%s/%s", folder, name) < (int)size ? 0 : -ENAMETOOLONG;
}

static int attributes(uint64_t node, struct fuse_attr *attr) {
  char path[4096];
  struct stat status;
  const int error = path_of(node, path, sizeof path);
  if (error != 0) return error;
  if (stat(path, &status) != 0) return -errno;
  *attr = (struct fuse_attr){
      .ino = node,
      .size = (uint64_t)status.st_size,
      .blocks = (uint64_t)status.st_blocks,
      .mode = status.st_mode,
      .nlink = 1,
      .uid = getuid(),
      .gid = getgid(),
      .blksize = 4096,
  };
  return 0;
}

static int look_up(const char *name, struct fuse_entry_out *entry) {
  size_t i = 0;
  while (i < count && strcmp(names[i], name) != 0) i++;
  if (i == kMaxNames) return -ENOSPC;
  if (i == count) names[count++] = strdup(name);
  *entry = (struct fuse_entry_out){.nodeid = i + 2, .entry_valid = validity, .attr_valid = validity};
  return attributes(i + 2, &entry->attr);
}

static int open_node(uint64_t node, uint32_t flags, struct fuse_open_out *opened) {
  char path[4096];
  const int error = path_of(node, path, sizeof path);
  if (error != 0) return error;
  const int fd = open(path, (int)flags & O_ACCMODE);
  *opened = (struct fuse_open_out){.fh = (uint64_t)fd};
  return fd < 0 ? -errno : 0;
}

static void answer(uint64_t unique, int error, const void *body, size_t size) {
  struct fuse_out_header header = {.unique = unique, .error = error};
  if (error != 0) size = 0;
  header.len = (uint32_t)(sizeof header + size);
  const struct iovec parts[] = {{&header, sizeof header}, {(void *)body, size}};
  /* ENOENT: who asked was interrupted. */
  if (writev(device, parts, 2) < 0 && errno != ENOENT) fail("answering");
}

static void serve_read(uint64_t unique, const struct fuse_read_in *in) {
  static char bytes[kMaxTransfer];
  const size_t size = in->size < sizeof bytes ? in->size : sizeof bytes;
  const ssize_t got = pread((int)in->fh, bytes, size, (off_t)in->offset);
  answer(unique, got < 0 ? -errno : 0, bytes, got < 0 ? 0 : (size_t)got);
}

static void serve_request(const struct fuse_in_header *header, const void *body) {
  const uint64_t unique = header->unique;
  switch (header->opcode) {
    case FUSE_INIT: {
      const struct fuse_init_out init = {
          .major = FUSE_KERNEL_VERSION,
          .minor = 31,
          .max_readahead = kMaxTransfer,
          .max_background = 12,
          .congestion_threshold = 9,
          .max_write = kMaxTransfer,
          .time_gran = 1,
      };
      answer(unique, 0, &init, sizeof init);
      return;
    }
    case FUSE_LOOKUP: {
      struct fuse_entry_out entry;
      const int error = header->nodeid == 1 ? look_up(body, &entry) : -ENOTDIR;
      answer(unique, error, &entry, sizeof entry);
      return;
    }
    case FUSE_GETATTR: {
      struct fuse_attr_out out = {.attr_valid = validity};
      const int error = attributes(header->nodeid, &out.attr);
      answer(unique, error, &out, sizeof out);
      return;
    }
    case FUSE_OPEN: {
      struct fuse_open_out opened;
      const int error = open_node(header->nodeid, ((const struct fuse_open_in *)body)->flags, &opened);
      answer(unique, error, &opened, sizeof opened);
      return;
    }
    case FUSE_READ:
      serve_read(unique, body);
      return;
    case FUSE_RELEASE:
      close((int)((const struct fuse_release_in *)body)->fh);
      answer(unique, 0, NULL, 0);
      return;
    case FUSE_FORGET:
    case FUSE_BATCH_FORGET:
    case FUSE_INTERRUPT:
      return;
    default:
      answer(unique, -ENOSYS, NULL, 0);
  }
}

/* Nothing is read before the server answers again: who waits can be killed so long. */
static void wait_while_hung(void) {
  char waiting[4096];
  if (access(hung, F_OK) != 0) return;
  snprintf(waiting, sizeof waiting, "%s.waiting", hung);
  write_text(waiting, "");
  while (access(hung, F_OK) == 0) usleep(kPauseMs * 1000);
}

static void serve(void) {
  static _Alignas(struct fuse_in_header) char request[kRequest];
  for (;;) {
    struct pollfd ready = {.fd = device, .events = POLLIN};
    if (poll(&ready, 1, -1) < 0) fail("waiting for a request");
    wait_while_hung();
    const ssize_t length = read(device, request, sizeof request - 1);
    if (length < 0 && (errno == ENOENT || errno == EINTR)) continue;
    /* ENODEV: it is unmounted. */
    if (length < (ssize_t)sizeof(struct fuse_in_header)) exit(0);
    request[length] = 0;
    serve_request((const struct fuse_in_header *)request, request + sizeof(struct fuse_in_header));
  }
}

/* Anybody may mount in a user namespace of his own. */
static void enter_namespace(void) {
  const unsigned uid = getuid();
  const unsigned gid = getgid();
  char map[64];
  if (unshare(CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER)) != 0) fail("unshare");
  if (uid != 0) {
    write_text("/proc/self/setgroups", "deny");
    snprintf(map, sizeof map, "%u %u 1", uid, uid);
    write_text("/proc/self/uid_map", map);
    snprintf(map, sizeof map, "%u %u 1", gid, gid);
    write_text("/proc/self/gid_map", map);
  }
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) fail("private mounts");
}

/* Has the kernel know the names, for as long as they are valid. */
static void look_at_all(const char *mountpoint) {
  char path[4096];
  struct stat status;
  DIR *all = opendir(folder);
  if (all == NULL) fail(folder);
  for (struct dirent *one = readdir(all); one != NULL; one = readdir(all)) {
    snprintf(path, sizeof path, "%s/%s", mountpoint, one->d_name);
    if (one->d_name[0] != '.' && stat(path, &status) != 0) fail(path);
  }
  closedir(all);
}

int main(int argc, char **argv) {
  if (argc < 6) return 125;
  folder = argv[1];
  hung = argv[4];
  validity = strtoul(argv[3], NULL, 10);
  unlink(hung);
  device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
  if (device < 0) fail("/dev/fuse");
  enter_namespace();
  char options[128];
  snprintf(options, sizeof options, "fd=%d,rootmode=40000,user_id=%u,group_id=%u", device, getuid(), getgid());
  if (mount("hanging", argv[2], "fuse.hanging", MS_NOSUID | MS_NODEV, options) != 0) fail("mount");
  const pid_t parent = getpid();
  const pid_t server = fork();
  if (server < 0) fail("fork");
  if (server == 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) return 0;
    /* Who reads the command's output is not to wait for this one. */
    for (int fd = 0; fd <= 2; fd++) close(fd);
    serve();
  }
  close(device);
  look_at_all(argv[2]);
  write_text(hung, "");
  execvp(argv[5], argv + 5);
  fail(argv[5]);
}

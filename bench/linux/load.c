/*
 * Drives a disk with Linux's asynchronous I/O, O_DIRECT, and never sleeps but for the disk: what
 * passes meanwhile is what the requests cost.
 *
 *   load DEVICE <JOBS        lines of NAME write|read random|sequential BYTES DEPTH COUNT
 *
 * Every 4 KiB begin with a word that tells where they belong: written by the first job, checked by
 * every read. Prints, for each job: `bench-result NAME NANOSECONDS` (of COUNT requests, after a
 * quarter of them that do not count), or `bench-failed NAME WHY`.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { kUnit = 4096, kMaxDepth = 64, kMaxBytes = 1 << 20 };

struct job {
  char name[64], direction[16], order[16];
  unsigned long bytes, depth, count;
};

struct disk {
  int fd;
  uint64_t size;
  aio_context_t context;
  char* buffers;
};

struct progress {
  uint64_t submitted, completed, state;
  const char* failure;
};

static uint64_t now_ns(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static uint64_t tag(uint64_t unit) { return (unit + 1) * 0x9e3779b97f4a7c15ul; }

static void stamp(char* buffer, uint64_t offset, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += kUnit) {
    const uint64_t word = tag((offset + at) / kUnit);
    memcpy(buffer + at, &word, sizeof word);
  }
}

static bool matches(const char* buffer, uint64_t offset, uint64_t bytes) {
  for (uint64_t at = 0; at < bytes; at += kUnit) {
    const uint64_t word = tag((offset + at) / kUnit);
    if (memcmp(buffer + at, &word, sizeof word) != 0) return false;
  }
  return true;
}

static uint64_t next_offset(const struct job* job, const struct disk* disk, struct progress* p) {
  const uint64_t blocks = disk->size / job->bytes;
  if (job->order[0] == 's') return p->submitted % blocks * job->bytes;
  p->state ^= p->state << 13;
  p->state ^= p->state >> 7;
  p->state ^= p->state << 17;
  return p->state % blocks * job->bytes;
}

static void prepare(const struct job* job, const struct disk* disk, struct progress* p,
                    struct iocb* one, uint64_t slot) {
  char* buffer = disk->buffers + slot * kMaxBytes;
  const bool writes = job->direction[0] == 'w';
  const uint64_t offset = next_offset(job, disk, p);
  if (writes) stamp(buffer, offset, job->bytes);
  *one = (struct iocb){.aio_data = slot,
                       .aio_lio_opcode = writes ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
                       .aio_fildes = (uint32_t)disk->fd,
                       .aio_buf = (uint64_t)buffer,
                       .aio_nbytes = job->bytes,
                       .aio_offset = (int64_t)offset};
  p->submitted++;
}

static void check(const struct job* job, const struct disk* disk, const struct iocb* one,
                  int64_t result, struct progress* p) {
  p->completed++;
  if (result != (int64_t)job->bytes) p->failure = "a request failed";
  if (one->aio_lio_opcode != IOCB_CMD_PREAD) return;
  const char* buffer = disk->buffers + one->aio_data * kMaxBytes;
  if (!matches(buffer, (uint64_t)one->aio_offset, job->bytes))
    p->failure = "a read gave something else";
}

/* Makes `count` requests, `depth` at a time, and waits for them. */
static void make_requests(const struct job* job, const struct disk* disk, uint64_t count,
                          struct progress* p) {
  static struct iocb requests[kMaxDepth];
  struct iocb* batch[kMaxDepth];
  struct io_event events[kMaxDepth];
  const uint64_t end = p->submitted + count;
  long ready = 0;
  for (uint64_t slot = 0; slot < job->depth && p->submitted < end; slot++) {
    prepare(job, disk, p, &requests[slot], slot);
    batch[ready++] = &requests[slot];
  }
  while (p->completed < end && p->failure == NULL) {
    if (ready > 0 && syscall(SYS_io_submit, disk->context, ready, batch) != ready)
      p->failure = "io_submit";
    const long done = syscall(SYS_io_getevents, disk->context, 1L, (long)job->depth, events, NULL);
    if (done < 1) p->failure = "io_getevents";
    ready = 0;
    for (long i = 0; i < done; i++) {
      struct iocb* one = &requests[events[i].data];
      check(job, disk, one, events[i].res, p);
      if (p->submitted == end) continue;
      prepare(job, disk, p, one, events[i].data);
      batch[ready++] = one;
    }
  }
}

static void run_job(const struct job* job, const struct disk* disk) {
  struct progress p = {.state = 88172645463325252ul};
  if (job->depth < 1 || job->depth > kMaxDepth || job->bytes > kMaxBytes ||
      job->bytes % kUnit != 0) {
    printf("bench-failed %s such a job is not possible\n", job->name);
    return;
  }
  make_requests(job, disk, job->count / 4, &p);
  const uint64_t begin = now_ns();
  make_requests(job, disk, job->count, &p);
  const uint64_t time = now_ns() - begin;
  if (p.failure != NULL)
    printf("bench-failed %s %s\n", job->name, p.failure);
  else
    printf("bench-result %s %lu\n", job->name, time);
}

int main(int argc, char** argv) {
  struct disk disk = {.fd = argc > 1 ? open(argv[1], O_RDWR | O_DIRECT) : -1};
  struct job job;
  disk.buffers = aligned_alloc(kUnit, (size_t)kMaxDepth * kMaxBytes);
  if (disk.fd < 0 || disk.buffers == NULL || ioctl(disk.fd, BLKGETSIZE64, &disk.size) != 0 ||
      syscall(SYS_io_setup, kMaxDepth, &disk.context) != 0) {
    printf("bench-failed all %s\n", strerror(errno));
    return 1;
  }
  while (scanf("%63s %15s %15s %lu %lu %lu", job.name, job.direction, job.order, &job.bytes,
               &job.depth, &job.count) == 6) {
    run_job(&job, &disk);
    fflush(stdout);
  }
  puts("bench-done");
  return 0;
}

/* Disk images whose every 4 KiB tell where they are and who wrote them (the guest's block.c has the
 * same). */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "host.h"

enum { kUnit = 4096, kWords = kUnit / 8 };

static uint64_t tag(uint64_t unit, uint64_t seed) {
  return (unit + 1) * 0x9e3779b97f4a7c15ul ^ seed;
}

static uint64_t* map_image(int fd, size_t size) {
  void* mapped = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) fail_errno("mmap");
  return mapped;
}

/*
 * Something that neither compresses to nothing nor is a hole. Written page by page: larger writes
 * make the page cache use large folios, in which file systems spend more time on each small write
 * than any VMM does.
 */
static void fill(int fd, size_t size) {
  static uint64_t chunk[1 << 17];
  uint64_t state = 88172645463325252ul;
  for (size_t i = 0; i < sizeof chunk / 8; i++) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    chunk[i] = state;
  }
  for (size_t done = 0; done < size;) {
    write_all(fd, (const char*)chunk + done % sizeof chunk, kUnit);
    done += kUnit;
  }
  if (fsync(fd) != 0) fail_errno("fsync");
}

/* For images that other programs have written. */
int command_repage(char** argv) {
  static char page[kUnit];
  if (argv[0] == NULL || argv[1] == NULL) fail("repage FROM TO");
  const int from = open(argv[0], O_RDONLY | O_CLOEXEC);
  const int to = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (from < 0 || to < 0) fail_errno(argv[from < 0 ? 0 : 1]);
  for (ssize_t length; (length = read(from, page, sizeof page)) != 0;) {
    if (length < 0) fail_errno(argv[0]);
    write_all(to, page, (size_t)length);
  }
  if (fsync(to) != 0) fail_errno("fsync");
  return 0;
}

int command_image(char** argv) {
  if (argv[0] == NULL || argv[1] == NULL || argv[2] == NULL) fail("image FILE BYTES SEED");
  const size_t size = strtoull(argv[1], NULL, 0) & ~(size_t)(kUnit - 1);
  const uint64_t seed = strtoull(argv[2], NULL, 0);
  const int fd = open(argv[0], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0) fail_errno(argv[0]);
  if ((size_t)status.st_size != size) {
    if (ftruncate(fd, 0) != 0) fail_errno("ftruncate");
    fill(fd, size);
  }
  uint64_t* words = map_image(fd, size);
  for (uint64_t unit = 0; unit < size / kUnit; unit++) {
    words[unit * kWords] = tag(unit, seed);
    words[unit * kWords + kWords - 1] = ~tag(unit, seed);
  }
  if (munmap(words, size) != 0) fail_errno("munmap");
  if (option_number(argv + 3, "--sync", 0) != 0) {
    if (fsync(fd) != 0) fail_errno("fsync");
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
  }
  return 0;
}

int command_check(char** argv) {
  if (argv[0] == NULL || argv[1] == NULL) fail("check FILE SEED");
  const uint64_t seed = strtoull(argv[1], NULL, 0);
  const int fd = open(argv[0], O_RDWR | O_CLOEXEC);
  struct stat status;
  if (fd < 0 || fstat(fd, &status) != 0) fail_errno(argv[0]);
  const size_t size = (size_t)status.st_size;
  const uint64_t* words = map_image(fd, size);
  uint64_t original = 0, written = 0, other = 0;
  for (uint64_t unit = 0; unit < size / kUnit; unit++) {
    const uint64_t first = words[unit * kWords], last = ~words[unit * kWords + kWords - 1];
    if (first == tag(unit, seed) && last == first)
      original++;
    else if (first == tag(unit, seed + 1) && last == first)
      written++;
    else
      other++;
  }
  printf("original %lu\nwritten %lu\nother %lu\n", original, written, other);
  return 0;
}

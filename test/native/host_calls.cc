// The C library's functions, which the program under test finds here rather than there.
#include "host_calls.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <mutex>
#include <shared_mutex>

namespace tsvmm::disk_test {
namespace {

std::shared_mutex active_mutex;  // shared by the calls under way
HostCalls* active = nullptr;

ssize_t really_read(int fd, const iovec* buffers, int count, off_t offset, int flags) {
  return ::syscall(SYS_preadv2, fd, buffers, count, offset, 0, flags);
}
ssize_t really_write(int fd, const iovec* buffers, int count, off_t offset, int flags) {
  return ::syscall(SYS_pwritev2, fd, buffers, count, offset, 0, flags);
}
int really_sync(int fd) { return static_cast<int>(::syscall(SYS_fdatasync, fd)); }
int really_allocate(int fd, int mode, off_t offset, off_t length) {
  return static_cast<int>(::syscall(SYS_fallocate, fd, mode, offset, length));
}
int really_resize(int fd, off_t size) {
  return static_cast<int>(::syscall(SYS_ftruncate, fd, size));
}

}  // namespace

HostCalls::HostCalls() {
  const std::lock_guard lock(active_mutex);
  active = this;
}
HostCalls::~HostCalls() { HostCalls::retire(); }

void HostCalls::retire() {
  const std::lock_guard lock(active_mutex);
  active = nullptr;
}

ssize_t HostCalls::read(int fd, const iovec* buffers, int count, off_t offset, int flags) {
  return really_read(fd, buffers, count, offset, flags);
}
ssize_t HostCalls::write(int fd, const iovec* buffers, int count, off_t offset, int flags) {
  return really_write(fd, buffers, count, offset, flags);
}
int HostCalls::sync(int fd) { return really_sync(fd); }
int HostCalls::allocate(int fd, int mode, off_t offset, off_t length) {
  return really_allocate(fd, mode, offset, length);
}
int HostCalls::resize(int fd, off_t size) { return really_resize(fd, size); }

}  // namespace tsvmm::disk_test

using namespace tsvmm::disk_test;  // NOLINT(google-build-using-namespace)

extern "C" {

ssize_t preadv2(int fd, const iovec* buffers, int count, off_t offset, int flags) {
  const std::shared_lock lock(active_mutex);
  HostCalls* calls = active;
  return calls != nullptr ? calls->read(fd, buffers, count, offset, flags)
                          : really_read(fd, buffers, count, offset, flags);
}
ssize_t pwritev2(int fd, const iovec* buffers, int count, off_t offset, int flags) {
  const std::shared_lock lock(active_mutex);
  HostCalls* calls = active;
  return calls != nullptr ? calls->write(fd, buffers, count, offset, flags)
                          : really_write(fd, buffers, count, offset, flags);
}
int fdatasync(int fd) {
  const std::shared_lock lock(active_mutex);
  HostCalls* calls = active;
  return calls != nullptr ? calls->sync(fd) : really_sync(fd);
}
int fsync(int fd) {
  const std::shared_lock lock(active_mutex);
  HostCalls* calls = active;
  return calls != nullptr ? calls->sync(fd) : static_cast<int>(::syscall(SYS_fsync, fd));
}
int fallocate(int fd, int mode, off_t offset, off_t length) {
  const std::shared_lock lock(active_mutex);
  HostCalls* calls = active;
  return calls != nullptr ? calls->allocate(fd, mode, offset, length)
                          : really_allocate(fd, mode, offset, length);
}
int ftruncate(int fd, off_t size) noexcept {
  const std::shared_lock lock(active_mutex);
  HostCalls* calls = active;
  return calls != nullptr ? calls->resize(fd, size) : really_resize(fd, size);
}
int statx(int folder, const char* path, int flags, unsigned mask, struct statx* answer) noexcept {
  const auto result = static_cast<int>(::syscall(SYS_statx, folder, path, flags, mask, answer));
  const std::shared_lock lock(active_mutex);
  if (HostCalls* calls = active; calls != nullptr && result == 0) calls->describe(*answer);
  return result;
}

}  // extern "C"

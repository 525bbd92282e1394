#pragma once

#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

namespace tsvmm::disk_test {

/// Stands between the program under test and the kernel for the calls that disks make, while it
/// lives: a test derives from it what the host does otherwise. One at a time; any thread calls.
///
/// As for the calls themselves, a result below 0 means that errno says why.
class HostCalls {
 public:
  HostCalls();
  virtual ~HostCalls();
  HostCalls(const HostCalls&) = delete;
  HostCalls& operator=(const HostCalls&) = delete;
  /// Stands between them no longer, and returns when nobody is in a call. To be called by a test
  /// whose threads may outlive it.
  void retire();

  virtual ssize_t read(int fd, const iovec* buffers, int count, off_t offset, int flags);
  virtual ssize_t write(int fd, const iovec* buffers, int count, off_t offset, int flags);
  /// fdatasync(2) and fsync(2).
  virtual int sync(int fd);
  virtual int allocate(int fd, int mode, off_t offset, off_t length);
  virtual int resize(int fd, off_t size);
  /// statx(2) with what it has answered, which may be changed.
  virtual void describe([[maybe_unused]] struct statx& answer) {}
};

}  // namespace tsvmm::disk_test

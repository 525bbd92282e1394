#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <random>
#include <vector>

#include "core/error.h"
#include "core/unique_fd.h"

namespace tsvmm::disk_test {

/// A file of `size` random bytes, gone with its last descriptor.
class TempImage {
 public:
  explicit TempImage(size_t size, const char* directory = "/tmp") {
    std::string path = std::string(directory) + "/tsvmm-disk-XXXXXX";
    fd_ = UniqueFd(check_errno(::mkstemp(path.data()), "mkstemp"));
    ::unlink(path.c_str());
    content.resize(size);
    std::mt19937_64 random(size);
    for (auto& byte : content) byte = static_cast<uint8_t>(random());
    restore();
  }

  /// Writes the first content again.
  void restore() {
    const auto written = ::pwrite(fd_.get(), content.data(), content.size(), 0);
    if (written != static_cast<ssize_t>(content.size())) throw Error("EIO", "writing a test image");
  }
  off_t next_hole(off_t from) const { return ::lseek(fd_.get(), from, SEEK_HOLE); }
  off_t next_data(off_t from) const { return ::lseek(fd_.get(), from, SEEK_DATA); }

  int fd() const { return fd_.get(); }
  std::vector<uint8_t> read(uint64_t offset, size_t size) const {
    std::vector<uint8_t> bytes(size);
    const ssize_t result = ::pread(fd_.get(), bytes.data(), size, static_cast<off_t>(offset));
    bytes.resize(result < 0 ? 0 : static_cast<size_t>(result));
    return bytes;
  }
  off_t size() const { return ::lseek(fd_.get(), 0, SEEK_END); }

  std::vector<uint8_t> content;

 private:
  UniqueFd fd_;
};

}  // namespace tsvmm::disk_test

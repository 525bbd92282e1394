#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/unique_fd.h"
#include "disk/disk_image.h"
#include "disk/open_image.h"

namespace tsvmm::disk_test {

using Bytes = std::vector<uint8_t>;

/// A folder that goes with the object; in memory if it can be, where nothing waits for a disk.
class TempFolder {
 public:
  explicit TempFolder(bool in_memory = true) {
    const bool has_memory = in_memory && ::access("/dev/shm", W_OK) == 0;
    std::string name = std::string(has_memory ? "/dev/shm" : "/tmp") + "/tsvmm-image-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) throw Error("EIO", "mkdtemp");
    path_ = name;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

/// Runs a shell command; its exit code, with what it printed in `output`.
inline int shell(const std::string& command, std::string* output = nullptr) {
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return -1;
  std::string text;
  char piece[4096];
  for (size_t size; (size = ::fread(piece, 1, sizeof piece, pipe)) != 0;) text.append(piece, size);
  const int status = ::pclose(pipe);
  if (output != nullptr) *output = text;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

/// Runs a command that has to succeed.
inline void must(const std::string& command) {
  std::string output;
  ASSERT_EQ(shell(command, &output), 0) << command << "\n" << output;
}

inline bool has_qemu_img() { return shell("command -v qemu-img") == 0; }

#define REQUIRE_QEMU_IMG()                 \
  if (!::tsvmm::disk_test::has_qemu_img()) \
  GTEST_SKIP() << "qemu-img is not installed (Debian: qemu-utils)"

// Plain system calls and arithmetic: streams and the library's generators are slow under
// sanitizers.

inline Bytes read_file(const std::string& path) {
  const UniqueFd fd(check_errno(::open(path.c_str(), O_RDONLY | O_CLOEXEC), path.c_str()));
  Bytes bytes(static_cast<size_t>(::lseek(fd.get(), 0, SEEK_END)));
  size_t done = 0;
  while (done < bytes.size()) {
    const ssize_t size =
        ::pread(fd.get(), &bytes[done], bytes.size() - done, static_cast<off_t>(done));
    if (size <= 0) throw Error("EIO", "reading " + path);
    done += static_cast<size_t>(size);
  }
  return bytes;
}

/// Changes part of a file.
inline void patch_file(const std::string& path, uint64_t offset, std::span<const uint8_t> bytes) {
  const UniqueFd fd(check_errno(::open(path.c_str(), O_WRONLY | O_CLOEXEC), path.c_str()));
  if (::pwrite(fd.get(), bytes.data(), bytes.size(), static_cast<off_t>(offset)) !=
      static_cast<ssize_t>(bytes.size())) {
    throw Error("EIO", "writing " + path);
  }
}

/// The file has these bytes and no others.
inline void write_file(const std::string& path, std::span<const uint8_t> bytes) {
  const int flags = O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC;
  UniqueFd(check_errno(::open(path.c_str(), flags, 0600), path.c_str())).reset();
  patch_file(path, 0, bytes);
}

/// Whether two disks hold the same, and where they do not.
inline testing::AssertionResult same(const Bytes& actual, const Bytes& expected) {
  if (actual.size() != expected.size()) {
    return testing::AssertionFailure() << actual.size() << " bytes, not " << expected.size();
  }
  if (actual.empty() || std::memcmp(actual.data(), expected.data(), actual.size()) == 0) {
    return testing::AssertionSuccess();
  }
  const auto where = std::ranges::mismatch(actual, expected).in1 - actual.begin();
  return testing::AssertionFailure() << "they differ at " << where;
}

/// What a disk holds, as QEMU sees it.
inline Bytes content_by_qemu(const std::string& format, const std::string& path) {
  const std::string raw = path + ".raw";
  must("qemu-img convert -f " + format + " -O raw " + path + " " + raw);
  Bytes bytes = read_file(raw);
  std::filesystem::remove(raw);
  return bytes;
}

inline Bytes random_bytes(size_t size, uint64_t seed) {
  Bytes bytes(size);
  uint64_t state = seed * 2 + 1;
  for (size_t i = 0; i + 8 <= size; i += 8) {
    state = state * 6364136223846793005U + 1442695040888963407U;
    const uint64_t word = state ^ (state >> 29);
    std::memcpy(&bytes[i], &word, 8);
  }
  return bytes;
}

/// Operations on an image, one after the other.
class Disk {
 public:
  explicit Disk(std::unique_ptr<DiskImage> image) : image_(std::move(image)) {
    queue_ = image_->make_queue(16);
  }
  /// The layers are opened read-only but for the first.
  static Disk open(const std::vector<std::pair<std::string, ImageFormat>>& layers,
                   ImageOptions options = {}) {
    std::vector<ImageLayer> opened;
    for (const auto& [path, format] : layers) {
      const bool writable = opened.empty() && !options.read_only;
      const int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC |
                        (opened.empty() && options.direct ? O_DIRECT : 0);
      opened.push_back({UniqueFd(check_errno(::open(path.c_str(), flags), path.c_str())), format});
    }
    return Disk(open_image(std::move(opened), options));
  }
  static Disk open(const std::string& path, ImageFormat format, ImageOptions options = {}) {
    return open({{path, format}}, options);
  }

  DiskImage& image() { return *image_; }
  DiskQueue& queue() { return *queue_; }

  int run(DiskOperation& operation) {
    queue_->start(operation);
    for (;;) {
      queue_->submit();
      if (queue_->next_completed() == &operation) return operation.error;
      queue_->wait();
    }
  }
  int read(uint64_t offset, std::span<uint8_t> bytes) {
    return transfer(DiskOperation::Kind::kRead, offset, bytes, false);
  }
  int write(uint64_t offset, std::span<const uint8_t> bytes, bool durable = false) {
    return transfer(DiskOperation::Kind::kWrite, offset,
                    {const_cast<uint8_t*>(bytes.data()), bytes.size()}, durable);
  }
  int flush() {
    DiskOperation operation;
    operation.kind = DiskOperation::Kind::kFlush;
    return run(operation);
  }
  int discard(uint64_t offset, uint64_t length) {
    DiskOperation operation;
    operation.kind = DiskOperation::Kind::kDiscard;
    operation.offset = offset;
    operation.length = length;
    return run(operation);
  }
  int write_zeroes(uint64_t offset, uint64_t length, bool may_unmap) {
    DiskOperation operation;
    operation.kind = DiskOperation::Kind::kWriteZeroes;
    operation.may_unmap = may_unmap;
    operation.offset = offset;
    operation.length = length;
    return run(operation);
  }
  Bytes content() {
    Bytes bytes(image_->size());
    for (size_t at = 0; at < bytes.size(); at += 1 << 20) {
      const size_t size = std::min<size_t>(1 << 20, bytes.size() - at);
      EXPECT_EQ(read(at, std::span(bytes).subspan(at, size)), 0) << "at " << at;
    }
    return bytes;
  }

 private:
  int transfer(DiskOperation::Kind kind, uint64_t offset, std::span<uint8_t> bytes, bool durable) {
    // In pieces that are no multiples of anything, as a guest's buffers are.
    std::vector<iovec> buffers;
    for (auto rest = bytes; !rest.empty();) {
      const size_t size = std::min<size_t>(rest.size(), buffers.empty() ? 1000 : 5001);
      buffers.push_back({rest.data(), size});
      rest = rest.subspan(size);
    }
    DiskOperation operation;
    operation.kind = kind;
    operation.durable = durable;
    operation.offset = offset;
    operation.length = bytes.size();
    operation.buffers = buffers;
    return run(operation);
  }

  std::unique_ptr<DiskImage> image_;
  std::unique_ptr<DiskQueue> queue_;
};

}  // namespace tsvmm::disk_test

#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"
#include "disk/disk_image.h"
#include "disk/open_image.h"

namespace tsvmm::qcow2_test {

using Bytes = std::vector<uint8_t>;

/// A folder that goes with the object.
class TempFolder {
 public:
  TempFolder() {
    // In memory, as flushing a disk takes most of the time otherwise.
    std::string name = "/dev/shm/tsvmm-qcow2-XXXXXX";
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
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  if (output != nullptr) *output = text;
  return code;
}

/// Runs a command that has to succeed.
inline void must(const std::string& command) {
  std::string output;
  ASSERT_EQ(shell(command, &output), 0) << command << "\n" << output;
}

inline bool has_qemu_img() { return shell("command -v qemu-img") == 0; }

#define REQUIRE_QEMU_IMG()                        \
  if (!::tsvmm::qcow2_test::has_qemu_img())       \
  GTEST_SKIP() << "qemu-img (qemu-utils) is not " \
                  "installed"

/// What `qemu-img check` finds: nothing; leaks only; or worse.
enum class Check { kClean, kLeaks, kCorrupt };
inline Check check(const std::string& path, std::string* output = nullptr) {
  switch (shell("qemu-img check -f qcow2 " + path, output)) {
    case 0:
      return Check::kClean;
    case 3:
      return Check::kLeaks;
    default:
      return Check::kCorrupt;
  }
}

inline void expect_clean(const std::string& path) {
  std::string output;
  EXPECT_EQ(check(path, &output), Check::kClean) << output;
}

inline Bytes read_file(const std::string& path) {
  Bytes bytes(std::filesystem::file_size(path));
  std::ifstream file(path, std::ios::binary);
  file.read(reinterpret_cast<char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  return bytes;
}

inline void write_file(const std::string& path, std::span<const uint8_t> bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()),
             static_cast<std::streamsize>(bytes.size()));
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
inline Bytes content_by_qemu(const std::string& path) {
  const std::string raw = path + ".raw";
  must("qemu-img convert -f qcow2 -O raw " + path + " " + raw);
  Bytes bytes = read_file(raw);
  std::filesystem::remove(raw);
  return bytes;
}

inline Bytes random_bytes(size_t size, uint64_t seed) {
  Bytes bytes(size);
  std::mt19937_64 random(seed);
  for (size_t i = 0; i + 8 <= size; i += 8) {
    const uint64_t word = random();
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
  static Disk open(const std::string& path, ImageOptions options = {}) {
    return open({{path, ImageFormat::kQcow2}}, options);
  }

  DiskImage& image() { return *image_; }
  DiskQueue& queue() { return *queue_; }

  int run(DiskOperation& operation) {
    queue_->start(operation);
    for (;;) {
      (void)queue_->submit();
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

}  // namespace tsvmm::qcow2_test

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "device_test_support.h"
#include "host/first_read.h"

namespace tsvmm {
namespace {

class HostFirstRead : public testing::Test {
 protected:
  void SetUp() override {
    folder_ =
        std::filesystem::temp_directory_path() / ("tsvmm-first-read-" + std::to_string(::getpid()));
    std::filesystem::create_directory(folder_);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  [[nodiscard]] std::string file(const std::string& name, size_t size) const {
    const std::string path = folder_ / name;
    std::ofstream(path) << std::string(size, 'x');
    return path;
  }
  /// Of the folder.
  [[nodiscard]] bool is_on_disk() const {
    struct statfs status {};
    if (::statfs(folder_.c_str(), &status) != 0) return false;
    return status.f_type == EXT4_SUPER_MAGIC || status.f_type == XFS_SUPER_MAGIC;
  }

  std::filesystem::path folder_;
};

TEST_F(HostFirstRead, OfDevicesFifosAndFoldersNothingIsRead) {
  const std::string fifo = folder_ / "fifo";
  ASSERT_EQ(::mkfifo(fifo.c_str(), 0600), 0);
  EXPECT_TRUE(is_cached(fifo)) << "nobody is at its other end, who would be waited for";
  EXPECT_TRUE(is_cached("/dev/null"));
  if (is_on_disk()) EXPECT_TRUE(is_cached(folder_));
  for (const std::string& path : {fifo, std::string("/dev/null"), folder_.string()})
    read_first(path);
}

TEST_F(HostFirstRead, WhatCannotBeToldIsNotCached) {
  for (const char* path : {"", "/none", "/proc/version"}) {
    EXPECT_FALSE(is_cached(path)) << path;
    read_first(path);
  }
  const std::string link = folder_ / "link";
  ASSERT_EQ(::symlink("/proc/version", link.c_str()), 0);
  EXPECT_FALSE(is_cached(link));
}

TEST_F(HostFirstRead, FilesAreCachedAsLongAsTheirBytesAre) {
  if (!is_on_disk()) GTEST_SKIP() << folder_ << " is on no disk of its own";
  for (const size_t size : {0, 1, 511, 4096, 5000, 1 << 20}) {
    const std::string path = file(std::to_string(size), size);
    EXPECT_TRUE(eventually([&] { return is_cached(path); })) << size;
  }
  const std::string path = file("forgotten", 1 << 20);
  const int fd = ::open(path.c_str(), O_RDONLY);
  ASSERT_EQ(::fsync(fd), 0);
  ASSERT_EQ(::posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
  EXPECT_FALSE(is_cached(path));
  read_first(path);
  EXPECT_TRUE(is_cached(path));
  ::close(fd);
}

}  // namespace
}  // namespace tsvmm

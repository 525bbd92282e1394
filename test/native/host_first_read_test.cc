#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/magic.h>
#include <pty.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "core/unique_fd.h"
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

/// Somebody puts a terminal in a file's place between two looks at it: it must not become ours.
TEST_F(HostFirstRead, AFileThatBecomesATerminalDoesNotBecomeTheControllingOne) {
  constexpr int kReads = 50'000;
  int person_fd = -1;
  int terminal_fd = -1;
  std::array<char, 64> name{};
  ASSERT_EQ(::openpty(&person_fd, &terminal_fd, name.data(), nullptr, nullptr), 0);
  const UniqueFd person(person_fd);
  const UniqueFd terminal(terminal_fd);
  const std::string path = file("file", 5000);
  const std::string other = folder_ / "other";
  ASSERT_EQ(::symlink(name.data(), other.c_str()), 0);
  std::atomic<bool> done = false;
  std::thread swapper([&] {
    while (!done) {
      ::renameat2(AT_FDCWD, path.c_str(), AT_FDCWD, other.c_str(), RENAME_EXCHANGE);
    }
  });
  const pid_t child = ::fork();
  if (child == 0) {
    ::setsid();
    for (int i = 0; i < kReads; ++i) {
      read_first(path);
      (void)is_cached(path);
    }
    ::_exit(::open("/dev/tty", O_RDWR | O_CLOEXEC) < 0 ? 0 : 1);
  }
  int status = -1;
  EXPECT_EQ(::waitpid(child, &status, 0), child);
  done = true;
  swapper.join();
  EXPECT_EQ(status, 0);
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

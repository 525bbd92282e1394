#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

#include "core/error.h"
#include "host/files.h"
#include "host_test_support.h"

namespace tsvmm {
namespace {

constexpr unsigned kStorage = kRegularFile | kBlockDevice;
constexpr unsigned kText = kRegularFile | kCharacterDevice | kFifo;

class HostFiles : public HostFolder {
 protected:
  std::string fifo() const {
    EXPECT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
    return path("fifo");
  }
};

TEST_F(HostFiles, NothingBlocksThatIsOpened) {
  const std::string name = fifo();
  for (const int flags : {O_RDONLY, O_RDWR, O_WRONLY, O_WRONLY | O_APPEND | O_CREAT}) {
    EXPECT_EQ(code_of([&] { (void)open_file(name, flags, 0600, kStorage); }),
              "ERR_TSVMM_FILE_KIND");
  }
  EXPECT_EQ(code_of([&] { (void)open_file(name, O_WRONLY, 0, kText); }), "ENXIO");
  const UniqueFd reader(::open(name.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  EXPECT_TRUE(open_file(name, O_WRONLY | O_NONBLOCK, 0, kText).valid());
}

TEST_F(HostFiles, AReadThatFailsNamesTheFile) {
  const UniqueFd memory(::open("/proc/self/mem", O_RDONLY | O_CLOEXEC));
  try {
    (void)read_at(memory.get(), 0, 1);
    FAIL() << "read what is not there";
  } catch (const Error& error) {
    EXPECT_EQ(error.what(),
              "reading /proc/" + std::to_string(::getpid()) + "/mem: Input/output error");
  }
}

TEST_F(HostFiles, WhatIsOfTheWrongKindIsNotOpenedAtAll) {
  const std::string name = fifo();
  // A writer that comes meanwhile would find a reader.
  EXPECT_EQ(code_of([&] { (void)open_file(name, O_RDONLY, 0, kStorage); }), "ERR_TSVMM_FILE_KIND");
  EXPECT_EQ(::open(name.c_str(), O_WRONLY | O_NONBLOCK | O_CLOEXEC), -1);
  EXPECT_EQ(errno, ENXIO);
}

TEST_F(HostFiles, KindsAreNamed) {
  const std::string name = path("folder");
  EXPECT_EQ(::mkdir(name.c_str(), 0700), 0);
  EXPECT_EQ(message_of([&] { (void)open_file(name, O_RDONLY, 0, kStorage); }),
            name + " is a directory, not a regular file or a block device");
  EXPECT_EQ(message_of([&] { (void)open_file("/dev/null", O_RDWR, 0, kStorage); }),
            "/dev/null is a character device, not a regular file or a block device");
  const std::string socket = path("socket");
  const UniqueFd listener = listener_at(socket);
  EXPECT_EQ(message_of([&] { (void)open_file(socket, O_WRONLY | O_APPEND, 0, kText); }),
            socket + " is a socket, not a regular file or a character device or a FIFO");
}

TEST_F(HostFiles, DescriptionsBlockUnlessAskedOtherwiseAndCloseOnExec) {
  const std::string name = path("file");
  const UniqueFd plain = open_file(name, O_RDWR | O_CREAT, 0600, kStorage);
  EXPECT_EQ(::fcntl(plain.get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(::fcntl(plain.get(), F_GETFD), FD_CLOEXEC);
  const UniqueFd output = open_file(name, O_WRONLY | O_APPEND | O_NONBLOCK, 0, kText);
  EXPECT_EQ(::fcntl(output.get(), F_GETFL) & (O_NONBLOCK | O_APPEND), O_NONBLOCK | O_APPEND);
}

TEST_F(HostFiles, AZeroByteInAPathIsRefused) {
  using namespace std::string_literals;
  write_file("file", "mine");
  EXPECT_EQ(code_of([&] { (void)open_file(path("file") + "\0.img"s, O_RDONLY, 0, kStorage); }),
            "EINVAL");
}

TEST_F(HostFiles, LinksAreNotFollowedWhereThatIsAskedFor) {
  write_file("file", "mine");
  EXPECT_EQ(::symlink(path("file").c_str(), path("link").c_str()), 0);
  EXPECT_TRUE(open_file(path("link"), O_RDONLY, 0, kStorage).valid());
  EXPECT_EQ(code_of([&] { (void)open_file(path("link"), O_RDONLY | O_NOFOLLOW, 0, kStorage); }),
            "ELOOP");
}

TEST_F(HostFiles, TemporaryFilesAreMadeInFoldersOnly) {
  EXPECT_TRUE(open_file(path("."), O_RDWR | O_TMPFILE, 0600, kRegularFile).valid());
  EXPECT_EQ(code_of([&] { (void)open_file(fifo(), O_RDWR | O_TMPFILE, 0600, kRegularFile); }),
            "ENOTDIR");
}

TEST_F(HostFiles, ALockThatIsGivenBackIsFree) {
  write_file("file", "");
  const UniqueFd one = open_file(path("file"), O_RDWR, 0, kStorage);
  const UniqueFd other = open_file(path("file"), O_WRONLY | O_APPEND, 0, kStorage);
  EXPECT_TRUE(lock_range(one.get(), false, 0, 0));
  EXPECT_FALSE(lock_range(other.get(), true, 0, 0));
  unlock_range(one.get(), 0, 0);
  EXPECT_TRUE(lock_range(other.get(), true, 0, 0));
}

TEST_F(HostFiles, IdentitiesAreThoseOfFilesNotOfNames) {
  write_file("file", "");
  EXPECT_EQ(::symlink(path("file").c_str(), path("link").c_str()), 0);
  const UniqueFd file = open_file(path("file"), O_RDONLY, 0, kStorage);
  EXPECT_EQ(file_id_at(path("link")), file_id(file.get()));
  EXPECT_EQ(file_id_at(path("other")), std::nullopt);
}

}  // namespace
}  // namespace tsvmm

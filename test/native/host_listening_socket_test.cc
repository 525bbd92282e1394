#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "host/files.h"
#include "host/listening_socket.h"
#include "host_test_support.h"

namespace tsvmm {
namespace {

class HostListeningSocket : public HostFolder {
 protected:
  const std::string socket_ = path("socket");

  /// As every user of a path does it.
  struct Owner {
    explicit Owner(const std::string& path)
        : claim(claim_socket(path)), socket(listen_unix(path)) {}
    SocketClaim claim;
    ListeningSocket socket;
  };
  static Owner listen(const std::string& path) { return Owner(path); }
  static void end(Owner owner, const std::string& path) {
    remove_listening_socket(path, owner.socket.id, owner.claim.lock_id);
  }
  /// As a process that was killed leaves it.
  void leave_stale() const { (void)listener_at(socket_); }
  unsigned mode_of(const std::string& name) const {
    struct stat status {};
    EXPECT_EQ(::lstat(path(name).c_str(), &status), 0);
    return status.st_mode & 0777U;
  }
};

TEST_F(HostListeningSocket, IsItsUsersAloneWhateverTheUmask) {
  for (const mode_t mask : {0000, 0022, 0077}) {
    const mode_t before = ::umask(mask);
    Owner socket = listen(socket_);
    ::umask(before);
    EXPECT_EQ(mode_of("socket"), 0600U);
    EXPECT_EQ(mode_of("socket.lock"), 0600U);
    end(std::move(socket), socket_);
  }
}

TEST_F(HostListeningSocket, LeavesNothingBehind) {
  Owner socket = listen(socket_);
  EXPECT_TRUE(connects_to(socket_));
  end(std::move(socket), socket_);
  EXPECT_FALSE(is_there("socket"));
  EXPECT_FALSE(is_there("socket.lock"));
}

TEST_F(HostListeningSocket, ReplacesWhatAKilledProcessLeft) {
  leave_stale();
  const Owner socket = listen(socket_);
  EXPECT_TRUE(connects_to(socket_));
}

TEST_F(HostListeningSocket, IsNotTakenFromALivingProcess) {
  const UniqueFd living = listener_at(socket_);
  const auto id = file_id_at(socket_);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "EADDRINUSE");
  EXPECT_EQ(file_id_at(socket_), id);
  EXPECT_FALSE(is_there("socket.lock"));
}

TEST_F(HostListeningSocket, IsNotTakenFromALivingProcessWithAFullBacklog) {
  const UniqueFd living = bound_at(socket_);
  ASSERT_EQ(::listen(living.get(), 0), 0);
  const sockaddr_un address = unix_address(socket_);
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "EADDRINUSE");
  EXPECT_TRUE(is_there("socket"));
}

TEST_F(HostListeningSocket, NothingElseIsReplaced) {
  write_file("socket", "precious");
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "EADDRINUSE");
  EXPECT_EQ(read_file("socket"), "precious");
  ASSERT_EQ(::unlink(socket_.c_str()), 0);

  ASSERT_EQ(::mkfifo(socket_.c_str(), 0600), 0);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "EADDRINUSE");
  ASSERT_EQ(::unlink(socket_.c_str()), 0);

  const UniqueFd datagrams = bound_at(socket_, SOCK_DGRAM);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "EADDRINUSE");
  ASSERT_EQ(::unlink(socket_.c_str()), 0);

  // A link to a stale socket.
  (void)listener_at(path("elsewhere"));
  ASSERT_EQ(::symlink(path("elsewhere").c_str(), socket_.c_str()), 0);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "EADDRINUSE");
  EXPECT_TRUE(is_there("elsewhere"));
  EXPECT_TRUE(is_there("socket"));
}

TEST_F(HostListeningSocket, WhoHoldsTheLockHasThePath) {
  const Owner first = listen(socket_);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "ERR_TSVMM_SOCKET_LOCKED");
  // Also where somebody removed the socket.
  ASSERT_EQ(::unlink(socket_.c_str()), 0);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "ERR_TSVMM_SOCKET_LOCKED");
  EXPECT_TRUE(is_there("socket.lock"));
}

TEST_F(HostListeningSocket, AClaimIsKeptBeforeThereIsASocket) {
  leave_stale();
  const SocketClaim claim = claim_socket(socket_);
  EXPECT_FALSE(is_there("socket"));
  EXPECT_EQ(code_of([&] { (void)claim_socket(socket_); }), "ERR_TSVMM_SOCKET_LOCKED");
  write_file("socket", "precious");
  EXPECT_EQ(code_of([&] { (void)listen_unix(socket_); }), "EADDRINUSE");
  remove_listening_socket(socket_, {}, claim.lock_id);
  EXPECT_EQ(read_file("socket"), "precious");
  EXPECT_FALSE(is_there("socket.lock"));
}

TEST_F(HostListeningSocket, AnEndingOneRemovesNothingOfTheNext) {
  Owner first = listen(socket_);
  // Somebody tidied up, and somebody else came.
  ASSERT_EQ(::unlink(socket_.c_str()), 0);
  ASSERT_EQ(::unlink((socket_ + ".lock").c_str()), 0);
  const Owner next = listen(socket_);
  end(std::move(first), socket_);
  EXPECT_TRUE(connects_to(socket_));
  EXPECT_TRUE(is_there("socket.lock"));
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "ERR_TSVMM_SOCKET_LOCKED");
}

TEST_F(HostListeningSocket, AUsersOwnLockFileStaysAsItIs) {
  write_file("socket.lock", "mine");
  Owner socket = listen(socket_);
  end(std::move(socket), socket_);
  EXPECT_EQ(read_file("socket.lock"), "mine");
}

TEST_F(HostListeningSocket, LockFilesAreNotFollowedToOtherFiles) {
  write_file("precious", "mine");
  const std::string lock = socket_ + ".lock";
  ASSERT_EQ(::symlink(path("precious").c_str(), lock.c_str()), 0);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "ELOOP");
  ASSERT_EQ(::unlink(lock.c_str()), 0);
  ASSERT_EQ(::symlink(path("nothing").c_str(), lock.c_str()), 0);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "ELOOP");
  EXPECT_FALSE(is_there("nothing"));
  ASSERT_EQ(::unlink(lock.c_str()), 0);
  ASSERT_EQ(::link(path("precious").c_str(), lock.c_str()), 0);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "EPERM");
  ASSERT_EQ(::unlink(lock.c_str()), 0);
  ASSERT_EQ(::mkfifo(lock.c_str(), 0600), 0);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "ERR_TSVMM_FILE_KIND");
  EXPECT_FALSE(is_there("socket"));
  EXPECT_EQ(read_file("precious"), "mine");
}

TEST_F(HostListeningSocket, LockFilesOfOtherUsersAreNotUsed) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file to another user";
  write_file("socket.lock", "");
  ASSERT_EQ(::chown((socket_ + ".lock").c_str(), 65534, 65534), 0);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "EPERM");
  ASSERT_EQ(::unlink((socket_ + ".lock").c_str()), 0);

  leave_stale();
  ASSERT_EQ(::chown(socket_.c_str(), 65534, 65534), 0);
  EXPECT_EQ(code_of([&] { (void)listen(socket_); }), "EADDRINUSE");
  EXPECT_TRUE(is_there("socket"));
}

TEST_F(HostListeningSocket, NamesThatAreNoPathsAreRefused) {
  using namespace std::string_literals;
  EXPECT_EQ(code_of([&] { (void)claim_socket("\0abstract"s); }), "EINVAL");
  EXPECT_EQ(code_of([&] { (void)claim_socket(socket_ + "\0.x"s); }), "EINVAL");
  EXPECT_EQ(code_of([&] { (void)claim_socket(""); }), "ENAMETOOLONG");
  EXPECT_EQ(code_of([&] { (void)claim_socket(path(std::string(150, 'x'))); }), "ENAMETOOLONG");
  EXPECT_EQ(code_of([&] { (void)claim_socket(path("no/socket")); }), "ENOENT");
  EXPECT_FALSE(is_there("socket"));
  EXPECT_FALSE(is_there("socket.lock"));
}

// Many that start at once over what a killed one left: each believes that it listens only while the
// path leads to it, and at most one does at any time.
TEST_F(HostListeningSocket, NoTwoBelieveThatTheyListen) {
  constexpr int kThreads = 4;
  constexpr int kRounds = 300;
  std::atomic<int> listening{0};
  std::atomic<int> wins{0};
  std::atomic<bool> failed{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, i] {
      for (int round = 0; round < kRounds; ++round) {
        try {
          Owner socket = listen(socket_);
          if (listening.fetch_add(1) != 0) failed = true;
          ++wins;
          const auto id = file_id_at(socket_);
          if (id != socket.socket.id || !connects_to(socket_)) failed = true;
          listening.fetch_sub(1);
          // Half of them are killed: their descriptors close, and their files stay.
          if ((round + i) % 2 == 0) end(std::move(socket), socket_);
        } catch (const Error& error) {
          if (error.code() != "EADDRINUSE" && error.code() != "ERR_TSVMM_SOCKET_LOCKED")
            failed = true;
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_FALSE(failed);
  EXPECT_GT(wins, kRounds / 4);
}

}  // namespace
}  // namespace tsvmm

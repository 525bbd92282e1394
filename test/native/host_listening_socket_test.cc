#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "denied_calls.h"
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

/// Tries to connect to a path until it is there. 0, or the errno of the first attempt that met a
/// file, and failed.
int connect_when_there(const std::string& path, const std::atomic<bool>& given_up) {
  const sockaddr_un address = unix_address(path);
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  while (!given_up) {
    if (::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
      return 0;
    if (errno != ENOENT) return errno;
  }
  return ENOENT;
}

TEST_F(HostListeningSocket, WhoFindsItCanConnect) {
  constexpr int kRounds = 2000;
  const SocketClaim claim = claim_socket(socket_);
  std::atomic<int> served{0};
  std::atomic<int> connected{0};
  std::atomic<int> failure{0};
  std::atomic<bool> given_up{false};
  std::thread client([&] {
    for (int round = 0; round < kRounds && failure == 0; ++round) {
      failure = connect_when_there(socket_, given_up);
      ++connected;
      while (served <= round && !given_up) std::this_thread::yield();
    }
  });
  for (int round = 0; round < kRounds && failure == 0; ++round) {
    const ListeningSocket socket = listen_unix(socket_);
    while (connected <= round) std::this_thread::yield();
    remove_listening_socket(socket_, socket.id, {});
    ++served;
  }
  given_up = true;
  client.join();
  EXPECT_EQ(failure, 0);
  EXPECT_FALSE(is_there("socket.bound"));
}

/// Also on file systems without hard links, and without RENAME_NOREPLACE.
class HostListeningSocketMoves : public HostListeningSocket,
                                 public testing::WithParamInterface<int> {
 protected:
  void deny() const {
    if (GetParam() >= 1) DeniedCalls::deny(DeniedCalls::kLinks, EPERM);
    if (GetParam() >= 2) DeniedCalls::deny({SYS_renameat2}, EINVAL);
  }
};

TEST_P(HostListeningSocketMoves, AreWhole) {
  std::thread([&] {
    deny();
    Owner socket = listen(socket_);
    EXPECT_TRUE(connects_to(socket_));
    EXPECT_EQ(file_id_at(socket_), socket.socket.id);
    EXPECT_FALSE(is_there("socket.bound"));
    end(std::move(socket), socket_);
    EXPECT_FALSE(is_there("socket"));
  }).join();
}

TEST_P(HostListeningSocketMoves, ReplaceNothing) {
  std::thread([&] {
    deny();
    const SocketClaim claim = claim_socket(socket_);
    write_file("socket", "precious");
    EXPECT_EQ(code_of([&] { (void)listen_unix(socket_); }), "EADDRINUSE");
    EXPECT_FALSE(is_there("socket.bound"));
  }).join();
  EXPECT_EQ(read_file("socket"), "precious");
}

INSTANTIATE_TEST_SUITE_P(Host, HostListeningSocketMoves, testing::Values(0, 1, 2));

TEST_F(HostListeningSocket, OfAnotherServerIsGivenItsPath) {
  const SocketClaim claim = claim_socket(socket_);
  EXPECT_EQ(claim.name, socket_ + ".bound");
  const UniqueFd listener = listener_at(claim.name);
  const std::string id = place_socket(claim.name, socket_);
  EXPECT_EQ(file_id_at(socket_), id);
  EXPECT_TRUE(connects_to(socket_));
  EXPECT_FALSE(is_there("socket.bound"));
  const UniqueFd second = listener_at(claim.name);
  EXPECT_EQ(code_of([&] { (void)place_socket(claim.name, socket_); }), "EADDRINUSE");
  EXPECT_FALSE(is_there("socket.bound"));
  EXPECT_EQ(code_of([&] { (void)place_socket(claim.name, socket_); }), "ENOENT");
  EXPECT_EQ(file_id_at(socket_), id);
  EXPECT_EQ(place_socket(socket_, socket_), id);
}

TEST_F(HostListeningSocket, HasAnyPathThatASocketCanHave) {
  const size_t rest = sizeof(sockaddr_un::sun_path) - 1 - path("").size();
  // With room for the name under which it is bound, and without.
  for (const size_t shorter : {6, 5, 0}) {
    const std::string name(rest - shorter, 'x');
    Owner socket = listen(path(name));
    EXPECT_EQ(socket.claim.name, path(shorter == 6 ? name + ".bound" : name));
    EXPECT_TRUE(connects_to(path(name))) << shorter;
    EXPECT_FALSE(is_there(name + ".bound"));
    end(std::move(socket), path(name));
    EXPECT_FALSE(is_there(name));
  }
}

TEST_F(HostListeningSocket, RemovesWhatAKilledProcessHadBound) {
  (void)bound_at(path("socket.bound"));
  const SocketClaim claim = claim_socket(socket_);
  EXPECT_FALSE(is_there("socket.bound"));
  remove_listening_socket(socket_, {}, claim.lock_id);

  // It was killed between giving the socket its path and taking the first name from it.
  (void)listener_at(path("socket.bound"));
  ASSERT_EQ(::link(path("socket.bound").c_str(), socket_.c_str()), 0);
  const Owner socket = listen(socket_);
  EXPECT_TRUE(connects_to(socket_));
  EXPECT_FALSE(is_there("socket.bound"));
}

TEST_F(HostListeningSocket, IsMadeAlsoWhereSomethingElseHasTheNameToBindIt) {
  const std::string bound = path("socket.bound");
  write_file("socket.bound", "precious");
  Owner beside_file = listen(socket_);
  EXPECT_EQ(beside_file.claim.name, socket_);
  EXPECT_TRUE(connects_to(socket_));
  end(std::move(beside_file), socket_);
  EXPECT_EQ(read_file("socket.bound"), "precious");
  ASSERT_EQ(::unlink(bound.c_str()), 0);

  const UniqueFd living = listener_at(bound);
  const auto id = file_id_at(bound);
  Owner beside_socket = listen(socket_);
  EXPECT_TRUE(connects_to(socket_));
  end(std::move(beside_socket), socket_);
  EXPECT_EQ(file_id_at(bound), id);
  EXPECT_TRUE(connects_to(bound));
}

TEST_F(HostListeningSocket, IsFoundByItsPathInTheKernelsList) {
  const Owner socket = listen(socket_);
  std::ifstream list("/proc/net/unix");
  const std::string text{std::istreambuf_iterator<char>(list), {}};
  EXPECT_NE(text.find(" " + socket_ + ".bound\n"), std::string::npos);
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

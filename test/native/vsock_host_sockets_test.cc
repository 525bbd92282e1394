#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include "host_test_support.h"
#include "virtio/vsock/host_sockets.h"

namespace tsvmm::vsock {
namespace {

constexpr uid_t kNobody = 65534;

class VsockHostSockets : public HostFolder {
 protected:
  Connect connect(const std::string& name, bool any_owner = false) const {
    UniqueFd socket;
    const Connect result = connect_to(path(name), any_owner, socket);
    EXPECT_EQ(socket.valid(), result == Connect::kDone);
    return result;
  }
  void give_away(const std::string& name) const {
    ASSERT_EQ(::lchown(path(name).c_str(), kNobody, kNobody), 0);
  }
};

TEST_F(VsockHostSockets, OnesOwnIsConnectedTo) {
  const UniqueFd listener = listener_at(path("own"));
  EXPECT_EQ(connect("own"), Connect::kDone);
  ASSERT_EQ(::symlink(path("own").c_str(), path("link").c_str()), 0);
  EXPECT_EQ(connect("link"), Connect::kDone);
  EXPECT_EQ(connect("none"), Connect::kFailed);
}

TEST_F(VsockHostSockets, NamesOfOthersAreNotUsedUnlessAskedFor) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can give a file to another user";
  const UniqueFd theirs = listener_at(path("theirs"));
  give_away("theirs");
  EXPECT_EQ(connect("theirs"), Connect::kFailed);
  EXPECT_EQ(connect("theirs", true), Connect::kDone);
  // Their link to a socket of ours, which was not meant for the guest.
  const UniqueFd own = listener_at(path("own"));
  ASSERT_EQ(::symlink(path("own").c_str(), path("link").c_str()), 0);
  give_away("link");
  EXPECT_EQ(connect("link"), Connect::kFailed);
}

TEST_F(VsockHostSockets, NorAreListenersOfOthersBehindANameOfOurs) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can become another user";
  const UniqueFd socket = bound_at(path("own"));
  // Its credentials are those of the process that called listen(2).
  const pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    const bool done = ::setresuid(kNobody, kNobody, kNobody) == 0 && ::listen(socket.get(), 4) == 0;
    ::_exit(done ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  ASSERT_EQ(status, 0);
  EXPECT_EQ(connect("own"), Connect::kFailed);
  EXPECT_EQ(connect("own", true), Connect::kDone);
}

TEST_F(VsockHostSockets, PathsThatAreNoneAreRefused) {
  using namespace std::string_literals;
  UniqueFd socket;
  EXPECT_EQ(connect_to("\0abstract"s, true, socket), Connect::kFailed);
  EXPECT_EQ(connect_to(std::string(200, 'x'), true, socket), Connect::kFailed);
}

}  // namespace
}  // namespace tsvmm::vsock

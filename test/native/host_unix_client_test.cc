#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <string>

#include "core/error.h"
#include "core/reader_name.h"
#include "host/files.h"
#include "host/listening_socket.h"
#include "host/unix_client.h"
#include "host_test_support.h"

namespace tsvmm {
namespace {

class UnixClientTest : public HostFolder {
 protected:
  const std::string socket = path("socket");
  const SocketClaim claim = claim_socket(socket);
  ListeningSocket server = listen_unix(socket);

  UniqueFd accept(bool& reader) const {
    sockaddr_un address{};
    socklen_t length = sizeof address;
    UniqueFd peer(::accept(server.listener.get(), reinterpret_cast<sockaddr*>(&address), &length));
    reader = is_reader(address, length);
    return peer;
  }
};

TEST_F(UnixClientTest, ConnectsAsAWriterOrAReader) {
  for (const bool wanted : {false, true, true}) {
    const UniqueFd client = connect_unix(socket, wanted);
    bool reader = !wanted;
    const UniqueFd peer = accept(reader);
    ASSERT_TRUE(peer.valid());
    EXPECT_EQ(reader, wanted);
    EXPECT_EQ(::send(peer.get(), "hello", 5, MSG_NOSIGNAL), 5);
    std::array<char, 8> bytes{};
    EXPECT_EQ(::read(client.get(), bytes.data(), bytes.size()), 5);
    EXPECT_NE(::fcntl(client.get(), F_GETFD) & FD_CLOEXEC, 0);
  }
}

TEST_F(UnixClientTest, SaysWhyItCannotConnect) {
  EXPECT_EQ(code_of([&] { (void)connect_unix(path("none"), false); }), "ENOENT");
  EXPECT_EQ(code_of([&] { (void)connect_unix(std::string(108, 'x'), false); }), "ENAMETOOLONG");
  EXPECT_EQ(code_of([&] { (void)connect_unix(std::string("a\0b", 3), false); }), "EINVAL");
  server.listener.reset();
  EXPECT_EQ(code_of([&] { (void)connect_unix(socket, false); }), "ECONNREFUSED");
}

TEST_F(UnixClientTest, DoesNotWaitForAServerThatAcceptsNobody) {
  std::vector<UniqueFd> clients;
  EXPECT_EQ(code_of([&] {
              for (int i = 0; i < 100'000; ++i) clients.push_back(connect_unix(socket, false));
            }),
            "EAGAIN");
}

TEST_F(UnixClientTest, SendsDescriptors) {
  auto pair = stream_pair();
  const UniqueFd& ours = pair.first;
  const UniqueFd& theirs = pair.second;
  const auto sent = stream_pair();
  const std::array<uint8_t, 3> bytes{'a', 'b', 'c'};
  EXPECT_EQ(send_descriptors(ours.get(), bytes, {sent.first.get()}), 3U);
  std::array<uint8_t, 8> received{};
  iovec data{.iov_base = received.data(), .iov_len = received.size()};
  alignas(cmsghdr) std::array<uint8_t, CMSG_SPACE(sizeof(int))> control{};
  msghdr message{};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  ASSERT_EQ(::recvmsg(theirs.get(), &message, 0), 3);
  const cmsghdr* header = CMSG_FIRSTHDR(&message);
  ASSERT_NE(header, nullptr);
  ASSERT_EQ(header->cmsg_type, SCM_RIGHTS);
  int fd = -1;
  std::memcpy(&fd, CMSG_DATA(header), sizeof fd);
  const UniqueFd copy(fd);
  EXPECT_EQ(file_id(copy.get()), file_id(sent.first.get()));
  EXPECT_EQ(code_of([&] { (void)send_descriptors(ours.get(), bytes, {}); }), "EINVAL");
  EXPECT_EQ(code_of([&] { (void)send_descriptors(ours.get(), {}, {sent.first.get()}); }), "EINVAL");
  EXPECT_EQ(code_of([&] { (void)send_descriptors(ours.get(), bytes, std::vector<int>(254, 0)); }),
            "EINVAL");
  EXPECT_EQ(code_of([&] { (void)send_descriptors(ours.get(), bytes, {123456}); }), "EBADF");
}

TEST_F(UnixClientTest, APeerWithTheLongestPathHasAnAddressLongerThanTheStructure) {
  sockaddr_un own{};
  own.sun_family = AF_UNIX;
  std::memset(own.sun_path, 'x', sizeof own.sun_path);
  const std::string folder = path("");
  ASSERT_LT(folder.size() + kReaderName.size(), sizeof own.sun_path);
  std::memcpy(own.sun_path, folder.data(), folder.size());
  std::memcpy(&own.sun_path[folder.size()], kReaderName.data(), kReaderName.size());
  const UniqueFd client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(client.get(), reinterpret_cast<const sockaddr*>(&own), sizeof own), 0);
  const sockaddr_un address = unix_address(socket);
  ASSERT_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address),
            0);
  bool reader = false;
  EXPECT_TRUE(accept(reader).valid());
  EXPECT_TRUE(reader);
}

TEST(IsReader, GoesByTheNameOfThePeer) {
  const auto named = [](std::string_view name) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, name.data(), name.size());
    return is_reader(address,
                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + name.size()));
  };
  using namespace std::string_view_literals;
  EXPECT_TRUE(named("\0tsvmm-reader"sv));
  EXPECT_TRUE(named("\0tsvmm-reader.12"sv));
  EXPECT_TRUE(named("/tmp/tsvmm-reader-1"sv));
  EXPECT_TRUE(named("tsvmm-reader"sv));
  EXPECT_FALSE(named(""sv));
  EXPECT_FALSE(named("\0"sv));
  EXPECT_FALSE(named("\0tsvmm-reade"sv));
  EXPECT_FALSE(named("/tmp/tsvmm-reader/socket"sv));
  EXPECT_FALSE(named("\0a-tsvmm-reader"sv));
}

}  // namespace
}  // namespace tsvmm

#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstdlib>
#include <numeric>
#include <thread>

#include "device_test_support.h"
#include "host/network.h"
#include "net/tap.h"
#include "net_test_support.h"
#include "virtio/net_protocol.h"

namespace tsvmm::net_test {
namespace {

using virtio_net::Header;
using virtio_net::kHeaderSize;

/// Runs the test in a network namespace of its own, which ends with its thread.
class TapTest : public testing::Test {
 protected:
  void SetUp() override {
    int result = 0;
    std::thread([&] { result = ::unshare(CLONE_NEWNET) == 0 ? 0 : errno; }).join();
    if (result != 0) GTEST_SKIP() << "needs root: unshare(CLONE_NEWNET): " << ::strerror(result);
    if (::access("/dev/net/tun", R_OK | W_OK) != 0) GTEST_SKIP() << "needs /dev/net/tun";
  }
  static void in_namespace(const std::function<void()>& body) {
    std::thread([&] {
      ASSERT_EQ(::unshare(CLONE_NEWNET), 0);
      body();
    }).join();
  }
};

/// Sees and sends all frames of an interface, on the host's side of it.
class Wire {
 public:
  explicit Wire(const std::string& name)
      : fd_(check_errno(::socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, htons(ETH_P_ALL)),
                        "socket")) {
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = htons(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(::if_nametoindex(name.c_str()));
    check_errno(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), "bind");
  }
  void give(const Bytes& frame) const {
    EXPECT_EQ(::send(fd_.get(), frame.data(), frame.size(), 0), static_cast<ssize_t>(frame.size()));
  }
  /// The next frame of ours that came from the tap.
  [[nodiscard]] std::optional<Bytes> take() const {
    Bytes frame(70000);
    for (;;) {
      sockaddr_ll from{};
      socklen_t from_size = sizeof from;
      const ssize_t size = ::recvfrom(fd_.get(), frame.data(), frame.size(), 0,
                                      reinterpret_cast<sockaddr*>(&from), &from_size);
      if (size < 0) return std::nullopt;
      if (from.sll_pkttype == PACKET_OUTGOING || !is_ours(frame)) continue;
      frame.resize(static_cast<size_t>(size));
      return frame;
    }
  }
  static bool is_ours(const Bytes& frame) { return frame[12] == 0x88 && frame[13] == 0xb5; }

 private:
  UniqueFd fd_;
};

/// A broadcast frame of the local experimental type.
Bytes frame_of(size_t size, uint8_t seed) {
  Bytes frame(size);
  std::iota(frame.begin(), frame.end(), seed);
  std::fill_n(frame.begin(), 6, uint8_t{0xff});
  frame[6] = 2;
  frame[12] = 0x88;
  frame[13] = 0xb5;
  return frame;
}

Bytes with_header(const Bytes& frame, const Header& header = {}) {
  Bytes packet(kHeaderSize);
  std::memcpy(packet.data(), &header, sizeof header);
  packet.insert(packet.end(), frame.begin(), frame.end());
  return packet;
}

/// Frames over memory of their own.
struct Batch {
  explicit Batch(const std::vector<Bytes>& packets) : storage(packets), vectors(packets.size()) {
    for (size_t i = 0; i < storage.size(); ++i) {
      vectors[i] = {storage[i].data(), storage[i].size()};
      frames.push_back({.buffers = std::span(vectors).subspan(i, 1)});
    }
  }
  std::vector<Bytes> storage;
  std::vector<iovec> vectors;
  std::vector<NetFrame> frames;
};

std::unique_ptr<TapBackend> make_tap(const std::string& name, unsigned pairs = 1) {
  OpenTap tap = open_tap(name, pairs);
  bring_interface_up(tap.name);
  return std::make_unique<TapBackend>(std::move(tap.queues));
}

int32_t send_one(NetQueue& queue, const Bytes& packet) {
  Batch batch({packet});
  EXPECT_EQ(queue.send(batch.frames), 1u);
  return batch.frames[0].result;
}

TEST_F(TapTest, IsMadeAndSetUp) {
  in_namespace([] {
    EXPECT_FALSE(interface_info("tap9"));
    {
      const OpenTap tap = open_tap("tap9", 1);
      EXPECT_TRUE(tap.created);
      EXPECT_EQ(tap.name, "tap9");
      const TapQueueInfo info = tap_queue_info(tap.queues[0].get());
      EXPECT_EQ(info.name, "tap9");
      EXPECT_TRUE(info.tap && info.vnet_header && !info.multi_queue);

      EXPECT_FALSE(interface_info("tap9")->up);
      set_interface_mac("tap9", {0x2e, 0, 0, 0, 0, 1});
      set_interface_mtu("tap9", 9000);
      set_interface_address("tap9", "192.0.2.1", "255.255.255.0");
      set_interface_address("tap9", "192.0.2.1", "255.255.255.0");
      set_interface_address("tap9", "2001:db8::1", "ffff:ffff:ffff:ffff::");
      set_interface_address("tap9", "2001:db8::1", "ffff:ffff:ffff:ffff::");
      bring_interface_up("tap9");
      bring_interface_up("tap9");
      const auto changed = interface_info("tap9").value();
      EXPECT_TRUE(changed.up);
      EXPECT_EQ(changed.mtu, 9000u);
      EXPECT_EQ(changed.mac, (std::array<uint8_t, 6>{0x2e, 0, 0, 0, 0, 1}));
      EXPECT_THROW(set_interface_address("tap9", "192.0.2.1", "ffff::"), Error);
      EXPECT_THROW((void)open_tap("tap9", 1), Error);  // busy
    }
    EXPECT_FALSE(interface_info("tap9"));
    const OpenTap other = open_tap("vmtap%d", 2);
    EXPECT_EQ(other.name, "vmtap0");
    EXPECT_TRUE(tap_queue_info(other.queues[1].get()).multi_queue);
    EXPECT_THROW((void)open_tap("", 1), Error);
    EXPECT_THROW((void)open_tap("0123456789abcdef", 1), Error);
    EXPECT_THROW((void)open_tap("lo", 1), Error);
  });
}

/// The bridge that an interface is a port of, as the kernel tells.
std::string bridge_of(const std::string& name) {
  std::array<char, 64> line{};
  const std::string command =
      "ip -o link show " + name + " | sed -n 's/.* master \\([^ ]*\\).*/\\1/p'";
  const std::unique_ptr<FILE, int (*)(FILE*)> output(::popen(command.c_str(), "r"), ::pclose);
  if (output == nullptr || std::fgets(line.data(), line.size(), output.get()) == nullptr) return {};
  std::string found = line.data();
  found.pop_back();
  return found;
}

TEST_F(TapTest, IsPutIntoABridge) {
  in_namespace([] {
    ASSERT_EQ(std::system("ip link add br7 type bridge && ip link add br8 type bridge"), 0);
    const OpenTap tap = open_tap("tap9", 1);
    EXPECT_EQ(bridge_of("tap9"), "");
    put_into_bridge("tap9", "br7");
    EXPECT_EQ(bridge_of("tap9"), "br7");
    EXPECT_THROW(put_into_bridge("tap9", "br8"), Error) << "it is another one's port";
    EXPECT_EQ(bridge_of("tap9"), "br7");
    for (const char* const none : {"nothing", "tap9", "lo", ""}) {
      EXPECT_THROW(put_into_bridge("tap9", none), Error) << none << " is no bridge";
    }
    EXPECT_THROW(put_into_bridge("nothing", "br7"), Error);
    EXPECT_THROW(put_into_bridge("", "br7"), Error);
    EXPECT_THROW(put_into_bridge("lo", "br7"), Error) << "it is no Ethernet interface";
  });
}

TEST_F(TapTest, OneThatIsThereStaysAsItIs) {
  in_namespace([] {
    ASSERT_EQ(
        std::system("ip tuntap add dev many mode tap multi_queue && ip link set many up mtu 1400"),
        0);
    {
      const OpenTap tap = open_tap("many", 1);  // A single queue of one that is made for many.
      EXPECT_FALSE(tap.created);
      EXPECT_EQ(interface_info("many")->mtu, 1400u);
    }
    EXPECT_TRUE(interface_info("many")->up);
    const OpenTap tap = open_tap("many", 4);
    EXPECT_EQ(tap.queues.size(), 4u);
    ASSERT_EQ(std::system("ip tuntap add dev single mode tap"), 0);
    EXPECT_THROW((void)open_tap("single", 2), Error);
  });
}

TEST_F(TapTest, CarriesFramesBothWays) {
  in_namespace([] {
    const auto tap = make_tap("tap9");
    EXPECT_TRUE(tap->offloads().checksum && tap->offloads().tso4 && tap->offloads().tso6);
    const Wire wire("tap9");
    for (const bool one_by_one : {false, true}) {
      const auto queue = one_by_one ? make_sync_tap_queue(tap->fd(0)) : tap->make_queue(0);
      std::vector<Bytes> packets;
      for (uint8_t i = 0; i < 50; ++i) packets.push_back(with_header(frame_of(60 + i, i)));
      Batch batch(packets);
      EXPECT_EQ(queue->send(batch.frames), 50u);
      for (uint8_t i = 0; i < 50; ++i) {
        EXPECT_EQ(batch.frames[i].result, static_cast<int32_t>(packets[i].size()));
        EXPECT_EQ(wire.take(), frame_of(60 + i, i));
      }

      for (uint8_t i = 0; i < 10; ++i) wire.give(frame_of(100, i));
      uint8_t expected = 0;
      Batch room(std::vector<Bytes>(8, Bytes(2000)));
      EXPECT_TRUE(eventually([&] {
        size_t count = 0;
        const NetQueue::State state = queue->receive(room.frames, count);
        EXPECT_EQ(state == NetQueue::State::kReady, count == room.frames.size());
        for (size_t i = 0; i < count; ++i) {
          Bytes& packet = room.storage[i];
          packet.resize(static_cast<size_t>(room.frames[i].result));
          const Bytes frame(packet.begin() + kHeaderSize, packet.end());
          packet.resize(2000);
          // The namespace itself has something to say, too.
          if (Wire::is_ours(frame)) EXPECT_EQ(frame, frame_of(100, expected++));
        }
        return expected == 10;
      }));
    }
  });
}

/// What a guest may write into a header: the kernel takes or refuses it, and nothing else happens.
TEST_F(TapTest, HostileHeadersAreRefusedOneByOne) {
  in_namespace([] {
    const auto tap = make_tap("tap9");
    const auto queue = tap->make_queue(0);
    const Bytes frame = frame_of(100, 1);
    for (const Header& header : std::vector<Header>{{.flags = 1,
                                .gso_type = 0,
                                .hdr_len = 0,
                                .gso_size = 0,
                                .csum_start = 0xffff,
                                .csum_offset = 0xffff,
                                .num_buffers = 0},
                                                    {.flags = 1,
                                                    .gso_type = 0,
                                                    .hdr_len = 0xffff,
                                                    .gso_size = 0,
                                                    .csum_start = 90,
                                                    .csum_offset = 30,
                                                    .num_buffers = 0},
                                                    {.flags = 0,
                                                    .gso_type = 1,
                                                    .hdr_len = 54,
                                                    .gso_size = 0,
                                                    .csum_start = 0,
                                                    .csum_offset = 0,
                                                    .num_buffers = 0},
                                                    {.flags = 0,
                                                    .gso_type = 0x7f,
                                                    .hdr_len = 54,
                                                    .gso_size = 1,
                                                    .csum_start = 0,
                                                    .csum_offset = 0,
                                                    .num_buffers = 0xffff}}) {
      EXPECT_LT(send_one(*queue, with_header(frame, header)), 0);
      // In the middle of a batch it costs nobody else anything.
      Batch batch({with_header(frame), with_header(frame, header), with_header(frame)});
      EXPECT_EQ(queue->send(batch.frames), 3u);
      EXPECT_GT(batch.frames[0].result, 0);
      EXPECT_LT(batch.frames[1].result, 0);
      EXPECT_GT(batch.frames[2].result, 0);
    }
    // Large segments of a protocol that knows none, with any sizes.
    std::array<uint8_t, 12> random{};
    for (unsigned i = 0; i < 5000; ++i) {
      for (uint8_t& byte : random) byte = static_cast<uint8_t>(std::rand());
      Header header{};
      std::memcpy(&header, random.data(), sizeof header);
      header.gso_type &= 0x87;
      (void)send_one(*queue, with_header(frame_of(60 + i % 3000, 0), header));
    }
    EXPECT_GT(send_one(*queue, with_header(frame)), 0);
  });
}

TEST_F(TapTest, DownAndGone) {
  in_namespace([] {
    OpenTap open = open_tap("tap9", 1);
    TapBackend tap(std::move(open.queues));
    for (const bool one_by_one : {false, true}) {
      const auto queue = one_by_one ? make_sync_tap_queue(tap.fd(0)) : tap.make_queue(0);
      EXPECT_EQ(send_one(*queue, with_header(frame_of(60, 0))), -EIO);
      Batch room({Bytes(2000), Bytes(2000)});
      size_t count = 9;
      EXPECT_EQ(queue->receive(room.frames, count), NetQueue::State::kWait);
      EXPECT_EQ(count, 0u);
    }
    ASSERT_EQ(std::system("ip link del tap9"), 0);
    for (const bool one_by_one : {false, true}) {
      const auto queue = one_by_one ? make_sync_tap_queue(tap.fd(0)) : tap.make_queue(0);
      Batch batch({with_header(frame_of(60, 0)), with_header(frame_of(60, 0))});
      EXPECT_EQ(queue->send(batch.frames), 2u);
      EXPECT_LT(batch.frames[0].result, 0);
      Batch room({Bytes(2000), Bytes(2000)});
      size_t count = 9;
      EXPECT_EQ(queue->receive(room.frames, count), NetQueue::State::kGone);
      EXPECT_EQ(count, 0u);
    }
  });
}

TEST_F(TapTest, OnlyActivePairsAreGivenFrames) {
  in_namespace([] {
    const auto tap = make_tap("tap9", 2);
    const Wire wire("tap9");
    const auto queue = tap->make_queue(0);
    const auto receive_ours = [&](size_t wanted) {
      size_t ours = 0;
      return eventually([&] {
        Batch room({Bytes(2000)});
        size_t count = 0;
        while (queue->receive(room.frames, count) != NetQueue::State::kWait && count == 1) {
          const Bytes frame(room.storage[0].begin() + kHeaderSize, room.storage[0].end());
          if (Wire::is_ours(frame)) ++ours;
        }
        return ours >= wanted;
      });
    };
    tap->set_active_pairs(1);
    for (uint8_t i = 0; i < 20; ++i) wire.give(frame_of(100, i));
    EXPECT_TRUE(receive_ours(20));
    tap->set_active_pairs(2);
    tap->set_active_pairs(1);
    for (uint8_t i = 0; i < 20; ++i) wire.give(frame_of(100, i));
    EXPECT_TRUE(receive_ours(20));
  });
}

TEST_F(TapTest, TakesNoOtherDescriptors) {
  in_namespace([] {
    std::vector<UniqueFd> fds;
    EXPECT_THROW(TapBackend(std::move(fds)), Error);
    fds.clear();
    fds.emplace_back(::open("/dev/null", O_RDWR));
    EXPECT_THROW(TapBackend(std::move(fds)), Error);
    EXPECT_THROW((void)tap_queue_info(0), Error);
  });
}

}  // namespace
}  // namespace tsvmm::net_test

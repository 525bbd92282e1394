#include <algorithm>
#include <map>
#include <random>

#include "vsock_test_support.h"

/// Random operations on several streams at once, against a model that knows every byte.
namespace tsvmm::virtio_test {
namespace {

constexpr uint32_t kServerPort = 9;

struct ModelStream {
  HostSocket host;
  uint32_t guest_port;
  uint32_t host_port;
  uint64_t seed;
  uint64_t guest_sent = 0;
  uint64_t host_got = 0;
  uint64_t host_sent = 0;
  uint64_t guest_got = 0;
  uint32_t buf_alloc;  ///< the guest's
  uint32_t device_alloc = 0;
  uint32_t device_fwd = 0;
  bool guest_stopped = false;
  bool host_stopped = false;
  bool stop_heard = false;  ///< by the guest
  bool gone = false;        ///< for the guest
};

class VsockRandomTest : public testing::TestWithParam<int> {
 protected:
  uint32_t pick(uint32_t bound) {
    return std::uniform_int_distribution<uint32_t>(0, bound - 1)(random);
  }
  uint32_t size() { return pick(4) == 0 ? 1 + pick(40000) : 1 + pick(300); }

  ModelStream* any() {
    if (streams.empty()) return nullptr;
    return std::next(streams.begin(), pick(static_cast<uint32_t>(streams.size())))->second.get();
  }
  void open() {
    if (streams.size() >= 6) return;
    const uint32_t port = next_port++;
    const uint32_t buf_alloc = 500 + pick(60000);
    auto made = pick(2) == 0 ? from_host(port, buf_alloc) : to_host(port, buf_alloc);
    if (made) streams[port] = std::move(made);
  }
  std::unique_ptr<ModelStream> from_host(uint32_t port, uint32_t buf_alloc) {
    HostSocket client = guest.ask_for(port);
    const auto request = next(port, Operation::kRequest);
    if (!request) return nullptr;
    Header response = guest.header(Operation::kResponse, port, request->header.src_port);
    response.buf_alloc = buf_alloc;
    guest.send(response);
    const std::string wanted = "OK " + std::to_string(request->header.src_port) + "\n";
    EXPECT_EQ(client.read(wanted.size()), wanted);
    return make(std::move(client), *request, buf_alloc);
  }
  std::unique_ptr<ModelStream> to_host(uint32_t port, uint32_t buf_alloc) {
    Header request = guest.header(Operation::kRequest, port, kServerPort);
    request.buf_alloc = buf_alloc;
    guest.send(request);
    const auto response = next(port, Operation::kResponse);
    if (!response) return nullptr;
    return make(std::move(server.accept().value()), *response, buf_alloc);
  }
  std::unique_ptr<ModelStream> make(HostSocket host, const Packet& first, uint32_t buf_alloc) {
    auto made = std::make_unique<ModelStream>(ModelStream{.host = std::move(host),
                                                          .guest_port = first.header.dst_port,
                                                          .host_port = first.header.src_port,
                                                          .seed = first.header.dst_port,
                                                          .buf_alloc = buf_alloc});
    learn(*made, first);
    return made;
  }
  static void learn(ModelStream& stream, const Packet& packet) {
    stream.device_alloc = packet.header.buf_alloc;
    stream.device_fwd = packet.header.fwd_cnt;
    EXPECT_LE(stream.device_fwd, stream.guest_sent);
  }
  /// Packets until one for `port` of this kind.
  std::optional<Packet> next(uint32_t port, Operation operation) {
    for (;;) {
      auto packet = guest.receive();
      EXPECT_TRUE(packet) << "no " << static_cast<int>(operation) << " for " << port;
      if (!packet) return packet;
      if (packet->header.dst_port == port && packet->operation() == operation) return packet;
      take(*packet);
    }
  }
  void take(const Packet& packet) {
    const auto found = streams.find(packet.header.dst_port);
    if (found == streams.end()) return;  // Of a stream that the guest has just reset.
    ModelStream& stream = *found->second;
    learn(stream, packet);
    switch (packet.operation()) {
      case Operation::kData:
        EXPECT_EQ(packet.data, pattern(stream.seed + 1, stream.guest_got, packet.data.size()));
        stream.guest_got += packet.data.size();
        EXPECT_LE(stream.guest_got, stream.host_sent);
        if (pick(2) == 0) update_credit(stream);
        break;
      case Operation::kShutdown:
        EXPECT_TRUE(stream.host_stopped);
        EXPECT_EQ(stream.guest_got, stream.host_sent) << "the end comes last";
        stream.stop_heard = true;
        break;
      case Operation::kCreditRequest:
        update_credit(stream);
        break;
      case Operation::kCreditUpdate:
        break;
      case Operation::kReset:
        // Both have said all, and the guest has not confirmed it for a while.
        EXPECT_TRUE(stream.guest_stopped && stream.stop_heard);
        stream.gone = true;
        break;
      default:
        ADD_FAILURE() << "operation " << packet.header.op;
    }
  }
  void update_credit(const ModelStream& stream) {
    if (!stream.gone) guest.send(with_credit(stream, Operation::kCreditUpdate));
  }
  Header with_credit(const ModelStream& stream, Operation operation) {
    Header header = guest.header(operation, stream.guest_port, stream.host_port);
    header.buf_alloc = stream.buf_alloc;
    header.fwd_cnt = static_cast<uint32_t>(stream.guest_got);
    return header;
  }
  void guest_writes(ModelStream& stream) {
    if (stream.guest_stopped) return;
    const auto in_flight = static_cast<uint32_t>(stream.guest_sent) - stream.device_fwd;
    const uint32_t length = std::min(size(), stream.device_alloc - in_flight);
    std::vector<uint32_t> sizes;
    for (uint32_t i = pick(6); i != 0; --i) sizes.push_back(1 + pick(60));
    uint32_t sum = 0;
    for (const uint32_t one : sizes) sum += one;
    if (sum >= length + vsock::kHeaderSize) sizes.clear();
    guest.send(with_credit(stream, Operation::kData),
               pattern(stream.seed, stream.guest_sent, length), sizes);
    stream.guest_sent += length;
  }
  void host_writes(ModelStream& stream) {
    if (stream.host_stopped) return;
    stream.host_sent += stream.host.offer(pattern(stream.seed + 1, stream.host_sent, size()));
  }
  void host_reads(ModelStream& stream, size_t bound) {
    if (stream.host_got == stream.guest_sent) return;
    const size_t wanted = std::min<size_t>(bound, stream.guest_sent - stream.host_got);
    EXPECT_EQ(stream.host.read(wanted), pattern(stream.seed, stream.host_got, wanted));
    stream.host_got += wanted;
  }
  void stop_guest(ModelStream& stream) {
    if (std::exchange(stream.guest_stopped, true)) return;
    Header header = with_credit(stream, Operation::kShutdown);
    header.flags = vsock::kWillNotSend;
    guest.send(header);
  }
  void stop_host(ModelStream& stream) {
    if (!std::exchange(stream.host_stopped, true)) stream.host.stop_sending();
  }
  /// Everything that is on its way arrives, and both ends close.
  void finish(ModelStream& stream) {
    stop_host(stream);
    stop_guest(stream);
    host_reads(stream, SIZE_MAX);
    EXPECT_TRUE(stream.host.ended());
    while (!stream.stop_heard) {
      const auto packet = guest.receive();
      ASSERT_TRUE(packet) << "port " << stream.guest_port << " got " << stream.guest_got << " of "
                          << stream.host_sent;
      take(*packet);
      update_credit(stream);
    }
    EXPECT_EQ(stream.guest_got, stream.host_sent);
    const uint32_t port = stream.guest_port;
    if (stream.gone) {
      streams.erase(port);
      return;
    }
    Header header = with_credit(stream, Operation::kShutdown);
    header.flags = vsock::kShutdownBoth;
    guest.send(header);
    EXPECT_TRUE(next(port, Operation::kReset));
    streams.erase(port);
  }
  void kill(ModelStream& stream) {
    guest.send(with_credit(stream, Operation::kReset));
    while (stream.host.read(65536).size() == 65536) {
    }
    EXPECT_TRUE(stream.host.ended());
    streams.erase(stream.guest_port);
  }

  std::mt19937 random{static_cast<uint32_t>(GetParam())};
  VsockGuest guest;
  HostSocket server = HostSocket::listen(guest.path + "_9");
  std::map<uint32_t, std::unique_ptr<ModelStream>> streams;
  uint32_t next_port = 100;
};

TEST_P(VsockRandomTest, EveryByteArrivesOnceAndInOrder) {
  static constexpr std::array<uint64_t, 4> kFeatures{
      VsockGuest::kFeatures, virtio_feature::kVersion1,
      virtio_feature::kVersion1 | virtio_feature::kEventIndex,
      virtio_feature::kVersion1 | virtio_feature::kInOrder};
  guest.activate(kFeatures[static_cast<size_t>(GetParam()) % kFeatures.size()]);
  guest.last_size = vsock::kHeaderSize + 200 + pick(8000);
  guest.post(static_cast<int>(8 + pick(200)), guest.last_size);
  for (int step = 0; step < 1500 && !HasFailure(); ++step) {
    ModelStream* const stream = any();
    const uint32_t operation = pick(100);
    if (stream == nullptr || operation < 2) {
      open();
    } else if (operation < 30) {
      guest_writes(*stream);
    } else if (operation < 55) {
      host_writes(*stream);
    } else if (operation < 75) {
      host_reads(*stream, size());
    } else if (operation < 96) {
      if (const auto packet = guest.receive(0)) take(*packet);
    } else if (operation == 96) {
      pick(2) == 0 ? stop_guest(*stream) : stop_host(*stream);
    } else if (operation == 97) {
      pick(2) == 0 ? finish(*stream) : kill(*stream);
    } else if (operation == 98) {
      pause(*guest.device);
      guest.device->resume();
    } else {
      guest.ring();
    }
  }
  while (!streams.empty() && !HasFailure()) finish(*streams.begin()->second);
  EXPECT_EQ(guest.host.failure(), "");
  EXPECT_TRUE(HasFailure() || guest.streams(0));
}

INSTANTIATE_TEST_SUITE_P(Seeds, VsockRandomTest, testing::Range(1, 13));

}  // namespace
}  // namespace tsvmm::virtio_test

#pragma once

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <deque>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "virtio/vsock.h"
#include "virtio/vsock/protocol.h"
#include "virtio_mock_driver.h"

/// A guest's socket driver and the host's programs, for tests.
namespace tsvmm::virtio_test {

using vsock::Header;
using vsock::Operation;

inline constexpr int kTestTimeoutMs = static_cast<int>(kTestTimeout.count());

/// A stream socket of a host program.
class HostSocket {
 public:
  explicit HostSocket(int fd) : fd_(fd) {}
  static HostSocket connect(const std::string& path) {
    HostSocket made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_of(path);
    EXPECT_EQ(::connect(made.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0)
        << path << ": " << strerrordesc_np(errno);
    return made;
  }
  static HostSocket listen(const std::string& path, int backlog = 64) {
    HostSocket made(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const sockaddr_un address = address_of(path);
    EXPECT_EQ(::bind(made.fd(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(made.fd(), backlog), 0);
    return made;
  }
  std::optional<HostSocket> accept() {
    if (!wait(POLLIN)) return std::nullopt;
    return HostSocket(::accept4(fd(), nullptr, nullptr, SOCK_CLOEXEC));
  }
  int fd() const { return fd_.get(); }
  bool wait(short events, int timeout_ms = kTestTimeoutMs) const {
    pollfd entry{fd(), events, 0};
    return ::poll(&entry, 1, timeout_ms) == 1;
  }
  /// What it takes without waiting.
  size_t offer(std::string_view text) {
    const ssize_t sent = ::send(fd(), text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    return sent < 0 ? 0 : static_cast<size_t>(sent);
  }
  void write(std::string_view text) {
    while (!text.empty()) {
      if (!wait(POLLOUT)) break;
      text.remove_prefix(offer(text));
    }
    EXPECT_TRUE(text.empty()) << text.size() << " bytes were not taken";
  }
  /// `size` bytes; less at the end of the stream.
  std::string read(size_t size) {
    std::string result(size, '\0');
    size_t done = 0;
    while (done < size && wait(POLLIN)) {
      const ssize_t count = ::recv(fd(), result.data() + done, size - done, MSG_DONTWAIT);
      if (count <= 0) break;
      done += static_cast<size_t>(count);
    }
    result.resize(done);
    return result;
  }
  /// True if the other side has closed, without another byte.
  bool ended() {
    char byte;
    return wait(POLLIN) && ::recv(fd(), &byte, 1, MSG_DONTWAIT) <= 0;
  }
  bool silent(int timeout_ms = 50) const { return !wait(POLLIN, timeout_ms); }
  void stop_sending() { ::shutdown(fd(), SHUT_WR); }
  void close() { fd_.reset(); }

 private:
  static sockaddr_un address_of(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    return address;
  }
  UniqueFd fd_;
};

struct Packet {
  Header header;
  std::string data;
  Operation operation() const { return static_cast<Operation>(header.op); }
};

/// The guest's driver, with the device behind it.
class VsockGuest {
 public:
  static constexpr uint32_t kCid = 42;
  static constexpr uint16_t kQueueSize = 256;
  static constexpr GuestAddress kTransmitData = 1 << 20;
  static constexpr GuestAddress kReceiveData = 32 << 20;
  static constexpr uint32_t kReceiveStride = 64 * 1024;
  static constexpr uint64_t kFeatures = kAllRingFeatures | virtio_feature::kInOrder;

  explicit VsockGuest(std::chrono::milliseconds timeout = kTestTimeout)
      : folder_(make_folder()), path(folder_ + "/v"), listener(HostSocket::listen(path)) {
    device = std::make_unique<VirtioVsock>(VirtioVsock::Options{.id = "_vsock0",
                                                                .guest_cid = kCid,
                                                                .listener = listener.fd(),
                                                                .path = path,
                                                                .timeout = timeout});
    device->connect(host);
  }
  ~VsockGuest() {
    device.reset();
    std::filesystem::remove_all(folder_);
  }

  void activate(uint64_t features = kFeatures) {
    transmitted_ = 0;
    for (uint16_t i = 0; i < 3; ++i) {
      const GuestAddress base = 0x10000 + 0x10000 * GuestAddress{i};
      const auto bytes = memory.slice(base, 0x10000).value();
      std::fill(bytes.begin(), bytes.end(), uint8_t{0});
      queues[i] = DriverQueue(memory, base, kQueueSize);
    }
    posted_ = received_ = rung_ = 0;
    Activation activation{memory, features, {}};
    for (uint16_t i = 0; i < 3; ++i) {
      states[i] = {};
      activation.queues.push_back(
          {i, queues[i].config(), &doorbells[i], &interrupts[i], &states[i]});
    }
    device->activate(activation);
  }

  // Receiving.

  void post(int count, uint32_t size = 4096 + vsock::kHeaderSize) {
    const uint16_t before = posted_;
    for (int i = 0; i < count; ++i) {
      const uint16_t slot = posted_++ % kQueueSize;
      queues[0].add({{kReceiveData + uint64_t{slot} * kReceiveStride, size, kWrite}}, slot);
    }
    signal(0, before, posted_);
  }
  /// The next packet; its buffer is posted again.
  std::optional<Packet> receive(int timeout_ms = kTestTimeoutMs) {
    if (!wait_for_used(timeout_ms)) return std::nullopt;
    const uint32_t slot = queues[0].used_id(received_);
    const uint32_t length = queues[0].used_length(received_++);
    EXPECT_EQ(slot, uint32_t((received_ - 1) % kQueueSize)) << "buffers are used in order";
    const GuestAddress at = kReceiveData + uint64_t{slot} * kReceiveStride;
    Packet packet{memory.read<Header>(at).value(), {}};
    EXPECT_EQ(length, vsock::kHeaderSize + packet.header.len);
    const auto data = memory.slice(at + vsock::kHeaderSize, packet.header.len).value();
    packet.data.assign(data.begin(), data.end());
    if (repost) post(1, last_size);
    return packet;
  }
  std::optional<Packet> receive(Operation operation) {
    auto packet = receive();
    EXPECT_TRUE(packet) << "nothing came";
    if (packet) {
      EXPECT_EQ(packet->operation(), operation) << packet->header.op;
    }
    return packet;
  }
  bool nothing(int timeout_ms = 50) { return !receive(timeout_ms); }

  // Sending.

  Header header(Operation operation, uint32_t guest_port, uint32_t host_port) const {
    return {.src_cid = kCid,
            .dst_cid = vsock::kHostCid,
            .src_port = guest_port,
            .dst_port = host_port,
            .len = 0,
            .type = vsock::kTypeStream,
            .op = static_cast<uint16_t>(operation),
            .flags = 0,
            .buf_alloc = 1 << 20,
            .fwd_cnt = 0};
  }
  /// Puts a packet into the queue, cut into buffers of `sizes` (the last one is the rest).
  void put(const Header& header, std::string_view data = {}, std::vector<uint32_t> sizes = {}) {
    // Room for 8 packets of 128 KiB, or 256 of 4 KiB, without waiting.
    std::string bytes(reinterpret_cast<const char*>(&header), sizeof header);
    bytes += data;
    const GuestAddress at = kTransmitData + uint64_t{next_place_++ % 128} * 128 * 1024;
    ASSERT_TRUE(memory.write(at, bytes_of(bytes)));
    std::vector<DriverQueue::Buffer> buffers;
    uint64_t done = 0;
    for (const uint32_t size : sizes) {
      buffers.push_back({at + done, size});
      done += size;
    }
    if (done < bytes.size()) {
      buffers.push_back({at + done, static_cast<uint32_t>(bytes.size() - done)});
    }
    if (next_head_ + buffers.size() > kQueueSize) next_head_ = 0;
    queues[1].add(buffers, next_head_);
    next_head_ = static_cast<uint16_t>(next_head_ + buffers.size());
    ++transmitted_;
  }
  bool all_taken(int timeout_ms = kTestTimeoutMs) {
    for (int i = 0; i < timeout_ms && queues[1].used_index() != transmitted_; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return queues[1].used_index() == transmitted_;
  }
  void ring() {
    signal(1, rung_, transmitted_);
    rung_ = transmitted_;
  }
  void send(Header header, std::string_view data = {}, std::vector<uint32_t> sizes = {}) {
    header.len = static_cast<uint32_t>(data.size());
    put(header, data, std::move(sizes));
    ring();
    EXPECT_TRUE(all_taken());
  }
  void send(Operation operation, uint32_t guest_port, uint32_t host_port, uint32_t flags = 0) {
    Header made = header(operation, guest_port, host_port);
    made.flags = flags;
    send(made);
  }

  // Streams.

  struct Connection {
    HostSocket host;
    uint32_t guest_port;
    uint32_t host_port;
  };
  /// A host client that has asked for the guest's `port`.
  HostSocket ask_for(uint32_t port) const {
    HostSocket client = HostSocket::connect(path);
    client.write("CONNECT " + std::to_string(port) + "\n");
    return client;
  }
  /// A host client that is connected to the guest's `port`.
  Connection accept_from_host(uint32_t port, uint32_t buf_alloc = 1 << 20) {
    Connection made{ask_for(port), port, 0};
    const auto request = receive(Operation::kRequest);
    if (!request) return made;
    EXPECT_EQ(request->header.dst_port, port);
    made.host_port = request->header.src_port;
    Header response = header(Operation::kResponse, port, made.host_port);
    response.buf_alloc = buf_alloc;
    send(response);
    const std::string wanted = "OK " + std::to_string(made.host_port) + "\n";
    EXPECT_EQ(made.host.read(wanted.size()), wanted);
    return made;
  }
  /// A host program that the guest has connected to, from its `port`.
  Connection connect_to_host(HostSocket& server, uint32_t guest_port, uint32_t host_port) {
    send(Operation::kRequest, guest_port, host_port);
    (void)receive(Operation::kResponse);
    return {std::move(server.accept().value()), guest_port, host_port};
  }
  Header header(Operation operation, const Connection& stream) const {
    return header(operation, stream.guest_port, stream.host_port);
  }
  void send(Operation operation, const Connection& stream, uint32_t flags = 0) {
    send(operation, stream.guest_port, stream.host_port, flags);
  }
  void send_data(const Connection& stream, std::string_view data,
                 std::vector<uint32_t> sizes = {}) {
    send(header(Operation::kData, stream), data, std::move(sizes));
  }
  /// Does not wait until the device has taken it.
  void begin_data(const Connection& stream, std::string_view data) {
    Header made = header(Operation::kData, stream);
    made.len = static_cast<uint32_t>(data.size());
    put(made, data);
    ring();
  }
  uint64_t counter(std::string_view name) const {
    for (const Counter& counter : device->counters()) {
      if (counter.name == name) return counter.value;
    }
    ADD_FAILURE() << name;
    return 0;
  }
  bool streams(uint64_t count) {
    return eventually([&] { return counter("streams") == count; });
  }

 private:
  static std::string make_folder() {
    std::string name = (std::filesystem::temp_directory_path() / "tsvmm-vsock-XXXXXX").string();
    EXPECT_NE(::mkdtemp(name.data()), nullptr);
    return name;
  }
  /// A polite driver rings only if that was asked for between the two indexes (virtio 1.2 §2.7.10).
  void signal(size_t queue, uint16_t before, uint16_t now) {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    const auto past_event = static_cast<uint16_t>(now - queues[queue].available_event() - 1);
    if (!polite || past_event < static_cast<uint16_t>(now - before)) doorbells[queue].signal();
  }
  bool wait_for_used(int timeout_ms) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
    for (;;) {
      const int interrupted = interrupts[0].count;
      if (polite) {
        queues[0].set_used_event(received_);
        std::atomic_thread_fence(std::memory_order_seq_cst);
      }
      if (queues[0].used_index() != received_) return true;
      do {
        if (std::chrono::steady_clock::now() >= end) return false;
        std::this_thread::sleep_for(std::chrono::microseconds(50));
      } while (polite && interrupts[0].count == interrupted);
    }
  }

  std::string folder_;
  uint16_t posted_ = 0;
  uint16_t received_ = 0;
  uint16_t transmitted_ = 0;
  uint16_t rung_ = 0;
  uint16_t next_head_ = 0;
  uint32_t next_place_ = 0;

 public:
  std::string path;
  HostSocket listener;
  GuestMemory memory{{range(0, 64 << 20)}, {}};
  DriverQueue queues[3]{
      {memory, 0x10000, kQueueSize}, {memory, 0x20000, kQueueSize}, {memory, 0x30000, kQueueSize}};
  EventFd doorbells[3];
  CountingInterrupt interrupts[3];
  SplitQueueState states[3];
  RecordingTransport host;
  bool repost = true;
  /// Rings only where it is asked to, and looks for packets when it was interrupted only, as an
  /// operating system's driver does.
  bool polite = false;
  uint32_t last_size = 4096 + vsock::kHeaderSize;
  std::unique_ptr<VirtioVsock> device;
};

/// Bytes that tell where in which stream they are.
inline std::string pattern(uint64_t seed, size_t begin, size_t size) {
  std::string text(size, '\0');
  for (size_t i = 0; i < size; ++i) {
    text[i] = static_cast<char>((seed * 131 + (begin + i) * 7 + ((begin + i) >> 8)) & 0xff);
  }
  return text;
}

}  // namespace tsvmm::virtio_test

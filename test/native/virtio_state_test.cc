#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "disk/raw_image.h"
#include "disk_test_support.h"
#include "image_test_support.h"
#include "memory_arena.h"
#include "net/stream_backend.h"
#include "spec_grower.h"
#include "virtio/balloon.h"
#include "virtio/block.h"
#include "virtio/block_protocol.h"
#include "virtio/clock.h"
#include "virtio/console.h"
#include "virtio/device_kind.h"
#include "virtio/iommu.h"
#include "virtio/mem.h"
#include "virtio/net.h"
#include "virtio/net_protocol.h"
#include "virtio/pmem.h"
#include "virtio/rng.h"
#include "virtio/watchdog.h"
#include "virtio_mock_driver.h"
#include "vsock_test_support.h"

/// Each kind of device is copied in the middle of its work: what is made of the copy, over the same
/// guest memory, goes on where the first one was.
namespace tsvmm::virtio_test {
namespace {

constexpr unsigned kSlot = 3;
constexpr GuestAddress kBar = PciHost::kWindow64;
constexpr uint64_t kConfig = virtio_pci::kDeviceOffset;
constexpr GuestAddress kRings = 0x1000;
constexpr uint64_t kRingStride = 0x1000;
constexpr GuestAddress kData = 0x100000;
constexpr uint16_t kQueueSize = 8;

/// What of a host a device needs.
struct Side {
  explicit Side(GuestMemory& memory) : host(memory) {}

  EventLoop loop{"state-test"};
  PciHost host;
};

/// A guest that does not see that its device is another one.
class Guest {
 public:
  explicit Guest(Side& side) { moved_to(side); }
  Guest() = default;

  void moved_to(Side& side) { side_ = &side; }
  BarDriver<PciHost> driver() { return {side_->host, kBar}; }

  /// With all features and all queues; their vectors are masked.
  void start() {
    auto function = driver();
    const uint32_t msix = side_->host.capability(kSlot, 0x11);
    side_->host.config_write<uint16_t>(kSlot, msix + 2, 0x8000);
    function.negotiate(function.device_features());
    for (uint16_t i = 0; i < function.read<uint16_t>(0x12); ++i) {
      queues.emplace_back(memory, kRings + i * kRingStride, kQueueSize);
      function.set_up(i, queues[i].config(), static_cast<uint16_t>(i + 1));
    }
    function.start();
    ASSERT_EQ(function.status(), 15);
  }
  /// All that registers tell.
  std::vector<uint8_t> registers(uint32_t config_size) {
    auto function = driver();
    std::vector<uint8_t> bytes;
    for (uint16_t queue = 0; queue < queues.size(); ++queue) {
      function.write<uint16_t>(0x16, queue);
      for (uint64_t at = 0; at < CommonConfig::kSize; ++at) {
        bytes.push_back(function.read<uint8_t>(at));
      }
    }
    for (uint64_t at = 0; at < config_size; ++at) {
      bytes.push_back(function.read<uint8_t>(kConfig + at));
    }
    return bytes;
  }

  void offer(uint16_t queue, const std::vector<DriverQueue::Buffer>& buffers, uint16_t head = 0) {
    queues[queue].add(buffers, head);
    driver().kick(queue);
  }
  bool used(uint16_t queue, uint16_t count) {
    return eventually([&] { return queues[queue].used_index() == count; });
  }
  /// The used length.
  uint32_t send(uint16_t queue, const std::vector<DriverQueue::Buffer>& buffers,
                uint16_t head = 0) {
    const uint16_t before = queues[queue].used_index();
    offer(queue, buffers, head);
    EXPECT_TRUE(used(queue, static_cast<uint16_t>(before + 1)));
    return queues[queue].used_length(before);
  }
  void put(GuestAddress address, auto value) { ASSERT_TRUE(memory.write(address, value)); }
  template <typename T>
  T get(GuestAddress address) {
    return memory.read<T>(address).value();
  }

  GuestMemory memory{{range(0, 16 << 20)}, {.thp = false}};
  std::vector<DriverQueue> queues;

 private:
  Side* side_ = nullptr;
};

/// What a test does with a device of one kind, and the host's ends of it.
class Work {
 public:
  virtual ~Work() = default;
  /// The first device is made as a user wants it; the second need only have the same options that
  /// decide on its features and queues.
  virtual std::shared_ptr<VirtioDevice> make(Guest& guest, Side& side, bool first) = 0;
  /// With the first one. It has been interrupted for kQueue.
  virtual void begin(Guest& guest, Side& side) = 0;
  [[nodiscard]] virtual uint16_t interrupting_queue() const { return 0; }
  /// With the second one.
  virtual void go_on(Guest& guest, Side& side) = 0;
};

class BlockWork final : public Work {
  std::shared_ptr<VirtioDevice> make(Guest& /*guest*/, Side& /*side*/, bool /*first*/) override {
    return std::make_shared<VirtioBlock>(std::make_unique<RawImage>(file_.fd(), false),
                                         VirtioBlock::Options{.id = "_disk0"});
  }
  void begin(Guest& guest, Side& /*side*/) override {
    guest.driver().write<uint8_t>(kConfig + virtio_block::kWritebackOffset, 0);
    EXPECT_EQ(request(guest, virtio_block::kRequestOut, 1, 0x5a), virtio_block::kStatusOk);
    EXPECT_EQ(request(guest, virtio_block::kRequestOut, 2, 0xa5), virtio_block::kStatusOk);
  }
  void go_on(Guest& guest, Side& /*side*/) override {
    EXPECT_EQ(guest.driver().read<uint8_t>(kConfig + virtio_block::kWritebackOffset), 0);
    EXPECT_EQ(request(guest, virtio_block::kRequestIn, 2, 0), virtio_block::kStatusOk);
    EXPECT_EQ(guest.get<uint8_t>(kSectorData), 0xa5);
    EXPECT_EQ(guest.queues[0].used_index(), 3);
  }

  uint8_t request(Guest& guest, uint32_t type, uint64_t sector, uint8_t fill) {
    constexpr GuestAddress kStatus = kData + 0x2000;
    const bool writes = type == virtio_block::kRequestOut;
    guest.put(kData, virtio_block::RequestHeader{type, 0, sector});
    std::ranges::fill(guest.memory.slice(kSectorData, 512).value(), fill);
    guest.put(kStatus, uint8_t{0xee});
    guest.send(0, {{kData, 16},
                   {kSectorData, 512, static_cast<uint16_t>(writes ? 0 : kWrite)},
                   {kStatus, 1, kWrite}});
    return guest.get<uint8_t>(kStatus);
  }

  static constexpr GuestAddress kSectorData = kData + 0x1000;
  disk_test::TempImage file_{1 << 20};
};

class NetWork final : public Work {
  std::shared_ptr<VirtioDevice> make(Guest& /*guest*/, Side& /*side*/, bool first) override {
    std::array<int, 2> ends{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()), 0);
    network_.reset(ends[0]);
    return std::make_shared<VirtioNet>(
        std::make_unique<StreamBackend>(UniqueFd(ends[1])),
        VirtioNet::Options{.id = "_net0",
                           .mac = {2, 0, 0, 0, 0, static_cast<uint8_t>(first ? 1 : 2)}});
  }
  void begin(Guest& guest, Side& /*side*/) override {
    const std::array<uint8_t, 8> command{
        virtio_net::kClassMac, virtio_net::kMacAddressSet, 2, 4, 6, 8, 10, 12};
    ASSERT_TRUE(guest.memory.write(kData, command));
    guest.send(kControl, {{kData, command.size()}, {kData + 0x100, 1, kWrite}});
    EXPECT_EQ(guest.get<uint8_t>(kData + 0x100), virtio_net::kAckOk);
    for (uint16_t i = 0; i < 6; ++i) {
      guest.offer(kReceive, {{kBuffers + i * 0x1000, 2048, kWrite}}, i);
    }
    receive(guest, 'a', 0);
    guest.send(kTransmit, {{kData + 0x1000, 100}});
  }
  void go_on(Guest& guest, Side& /*side*/) override {
    EXPECT_EQ(guest.driver().read<uint8_t>(kConfig + 5), 12) << "the address that the guest set";
    receive(guest, 'b', 1);
    receive(guest, 'c', 2);
    guest.send(kTransmit, {{kData + 0x1000, 100}});
    EXPECT_EQ(guest.queues[kTransmit].used_index(), 2);
  }

  /// A frame of such bytes gets into the next buffer.
  void receive(Guest& guest, char byte, uint16_t buffer) {
    constexpr size_t kFrame = 60;
    std::string bytes("\0\0\0", 3);
    bytes.push_back(static_cast<char>(kFrame));
    bytes.append(kFrame, byte);
    ASSERT_EQ(::send(network_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(bytes.size()));
    ASSERT_TRUE(guest.used(kReceive, static_cast<uint16_t>(buffer + 1)));
    EXPECT_EQ(guest.queues[kReceive].used_id(buffer), buffer);
    EXPECT_EQ(guest.get<char>(kBuffers + buffer * 0x1000 + virtio_net::kHeaderSize), byte);
  }

  static constexpr uint16_t kReceive = 0;
  static constexpr uint16_t kTransmit = 1;
  static constexpr uint16_t kControl = 2;
  static constexpr GuestAddress kBuffers = kData + 0x10000;
  UniqueFd network_;
};

class RngWork final : public Work {
  std::shared_ptr<VirtioDevice> make(Guest& /*guest*/, Side& side, bool /*first*/) override {
    const UniqueFd source(::open("/dev/urandom", O_RDONLY | O_CLOEXEC));
    return std::make_shared<VirtioRng>(source.get(), side.loop, "_rng0");
  }
  void begin(Guest& guest, Side& /*side*/) override {
    EXPECT_EQ(guest.send(0, {{kData, 64, kWrite}}), 64U);
  }
  void go_on(Guest& guest, Side& /*side*/) override {
    EXPECT_EQ(guest.send(0, {{kData, 32, kWrite}}), 32U);
    EXPECT_EQ(guest.queues[0].used_index(), 2);
  }
};

/// A terminal that takes so many bytes and no more.
class LimitedTerminal final : public CharBackend {
 public:
  struct Screen {
    std::mutex mutex;
    std::string text;
    size_t size = 0;
    bool shows(std::string_view expected) {
      const std::lock_guard lock(mutex);
      return text == expected;
    }
  };
  explicit LimitedTerminal(Screen& screen) : screen_(screen) {}
  size_t write(std::span<const uint8_t> bytes) noexcept override {
    const std::lock_guard lock(screen_.mutex);
    const size_t taken = std::min(bytes.size(), screen_.size - screen_.text.size());
    screen_.text.append(reinterpret_cast<const char*>(bytes.data()), taken);
    return taken;
  }
  void attach(CharClient* /*client*/) override {}
  void input_wanted() noexcept override {}

 private:
  Screen& screen_;
};

class ConsoleWork final : public Work {
  std::shared_ptr<VirtioDevice> make(Guest& /*guest*/, Side& side, bool first) override {
    screen_.size = first ? 5 : 100;
    return std::make_shared<VirtioConsole>(std::make_unique<LimitedTerminal>(screen_), side.loop,
                                           first ? 80 : 0, first ? 25 : 0);
  }
  void begin(Guest& guest, Side& /*side*/) override {
    ASSERT_TRUE(guest.memory.write(kData, std::array{'a', 'b', 'h', 'e', 'l', 'l', 'o'}));
    guest.send(kTransmit, {{kData, 2}});
    guest.offer(kTransmit, {{kData + 2, 5}});
    EXPECT_TRUE(eventually([&] { return screen_.shows("abhel"); }));
  }
  uint16_t interrupting_queue() const override { return kTransmit; }
  void go_on(Guest& guest, Side& /*side*/) override {
    EXPECT_TRUE(guest.used(kTransmit, 2));
    EXPECT_TRUE(screen_.shows("abhello"));
    EXPECT_EQ(guest.driver().read<uint16_t>(kConfig), 80);
  }

  static constexpr uint16_t kTransmit = 1;
  LimitedTerminal::Screen screen_;
};

class WatchdogWork final : public Work {
  std::shared_ptr<VirtioDevice> make(Guest& /*guest*/, Side& side, bool /*first*/) override {
    now = 1'000'000'000;
    return std::make_shared<VirtioWatchdog>(
        side.loop, [this] { ++expired_; },
        VirtioWatchdog::Timing{.check_period = std::chrono::milliseconds(5),
                               .timeout = std::chrono::seconds(20),
                               .now_ns = +[]() noexcept { return now.load(); }});
  }
  void begin(Guest& guest, Side& /*side*/) override {
    EXPECT_EQ(guest.send(0, {{kData, 1, kWrite}}), 1U);
  }
  void go_on(Guest& /*guest*/, Side& /*side*/) override {
    EXPECT_EQ(expired_, 0);
    now += 30'000'000'000;
    EXPECT_TRUE(eventually([this] { return expired_ == 1; })) << "the guest had begun to feed it";
  }

  static inline std::atomic<uint64_t> now;
  std::atomic<int> expired_ = 0;
};

class BalloonWork final : public Work {
  std::shared_ptr<VirtioDevice> make(Guest& /*guest*/, Side& side, bool first) override {
    device_ = std::make_shared<VirtioBalloon>(
        side.loop,
        VirtioBalloon::Options{
            .size = first ? 64ULL << 20 : 0, .deflate_on_oom = true, .free_page_reporting = true});
    return device_;
  }
  void begin(Guest& guest, Side& side) override {
    guest.put(kData, uint32_t{0x400});
    guest.put(kData + 4, uint32_t{0x401});
    guest.send(kInflate, {{kData, 8}});
    guest.driver().write<uint32_t>(kConfig + 4, 2);
    guest.put(kData + 0x100, kTotalTag);
    guest.put(kData + 0x102, uint64_t{1} << 30);
    guest.offer(kStatistics, {{kData + 0x100, 10}}, kBufferHead);
    // It is recorded when its turn has come.
    for (int i = 0; i < 3; ++i) side.loop.call([] {});
  }
  void go_on(Guest& guest, Side& /*side*/) override {
    EXPECT_EQ(guest.driver().read<uint32_t>(kConfig), 64U << 20 >> 12) << "what the host asks for";
    EXPECT_EQ(guest.driver().read<uint32_t>(kConfig + 4), 2U);
    EXPECT_EQ(counter("inflated_bytes"), 2U * 4096);
    EXPECT_EQ(counter("total_bytes"), uint64_t{1} << 30);
    // Asked for newer ones it gives the first one's buffer back.
    EXPECT_TRUE(eventually([&] {
      (void)device_->counters();
      return guest.queues[kStatistics].used_index() == 1;
    }));
    EXPECT_EQ(guest.queues[kStatistics].used_id(0), kBufferHead);
    guest.send(kInflate, {{kData, 4}});
    EXPECT_EQ(guest.queues[kInflate].used_index(), 2);
  }

  uint64_t counter(const std::string& name) {
    for (const Counter& counter : device_->counters()) {
      if (counter.name == name) return counter.value;
    }
    return 0;
  }

  static constexpr uint16_t kInflate = 0;
  static constexpr uint16_t kStatistics = 2;
  static constexpr uint16_t kBufferHead = 5;
  static constexpr uint16_t kTotalTag = 5;
  std::shared_ptr<VirtioBalloon> device_;
};

class VsockWork final : public Work {
 public:
  VsockWork() : listener_(HostSocket::listen(path_)), port_(HostSocket::listen(path_ + "_1")) {}

 private:
  std::shared_ptr<VirtioDevice> make(Guest& /*guest*/, Side& /*side*/, bool /*first*/) override {
    return std::make_shared<VirtioVsock>(VirtioVsock::Options{
        .id = "_vsock0", .guest_cid = kCid, .listener = listener_.fd(), .path = path_});
  }
  void begin(Guest& guest, Side& /*side*/) override {
    for (uint16_t i = 0; i < 6; ++i) {
      guest.offer(vsock::kReceiveQueue, {{kPackets + i * 0x1000, 1024, kWrite}}, i);
    }
    for (uint16_t i = 0; i < 2; ++i) {
      guest.offer(vsock::kEventQueue, {{kEvents + 16 * i, vsock::kEventSize, kWrite}}, i);
    }
    EXPECT_EQ(say(guest, Operation::kRequest, 1), Operation::kResponse);
    program_ = port_.accept();
    ASSERT_TRUE(program_);
  }
  void go_on(Guest& guest, Side& /*side*/) override {
    EXPECT_TRUE(program_->ended());
    ASSERT_TRUE(guest.used(vsock::kEventQueue, 1));
    EXPECT_EQ(guest.get<uint32_t>(kEvents), vsock::kEventTransportReset);
    EXPECT_EQ(say(guest, Operation::kData, 1), Operation::kReset) << "there are no streams";
    EXPECT_EQ(say(guest, Operation::kRequest, 1), Operation::kResponse);
    EXPECT_EQ(guest.queues[vsock::kEventQueue].used_index(), 1) << "it is told once";
  }

  /// Sends a packet from the guest's port 1024; what is answered.
  Operation say(Guest& guest, Operation operation, uint32_t port) {
    const vsock::Header header{.src_cid = kCid,
                               .dst_cid = vsock::kHostCid,
                               .src_port = 1024,
                               .dst_port = port,
                               .len = 0,
                               .type = vsock::kTypeStream,
                               .op = static_cast<uint16_t>(operation),
                               .flags = 0,
                               .buf_alloc = 4096,
                               .fwd_cnt = 0};
    const uint16_t before = guest.queues[vsock::kReceiveQueue].used_index();
    guest.put(kData, header);
    guest.send(vsock::kTransmitQueue, {{kData, vsock::kHeaderSize}});
    EXPECT_TRUE(guest.used(vsock::kReceiveQueue, static_cast<uint16_t>(before + 1)));
    const uint32_t buffer = guest.queues[vsock::kReceiveQueue].used_id(before);
    return static_cast<Operation>(guest.get<vsock::Header>(kPackets + buffer * 0x1000).op);
  }

  static constexpr uint32_t kCid = 3;
  static constexpr GuestAddress kEvents = kData + 0x1000;
  static constexpr GuestAddress kPackets = kData + 0x10000;
  const disk_test::TempFolder folder_;
  const std::string path_ = folder_ / "vsock";
  HostSocket listener_;
  HostSocket port_;
  std::optional<HostSocket> program_;
};

class PmemWork final : public Work {
  std::shared_ptr<VirtioDevice> make(Guest& guest, Side& /*side*/, bool /*first*/) override {
    return std::make_shared<VirtioPmem>(UniqueFd::duplicate(file_.fd()), guest.memory,
                                        VirtioPmem::Options{.id = "_pmem0", .size = kSize});
  }
  void begin(Guest& guest, Side& /*side*/) override {
    guest.put(PciHost::kDeviceMemory, uint8_t{7});
    flush(guest);
  }
  void go_on(Guest& guest, Side& /*side*/) override {
    EXPECT_EQ(guest.get<uint8_t>(PciHost::kDeviceMemory), 7);
    guest.put(PciHost::kDeviceMemory + 1, uint8_t{8});
    flush(guest);
    EXPECT_EQ(file_.read(0, 2), (std::vector<uint8_t>{7, 8}));
    EXPECT_EQ(guest.queues[0].used_index(), 2);
  }

  static void flush(Guest& guest) {
    guest.put(kData, uint32_t{0});
    guest.put(kData + 8, uint32_t{99});
    EXPECT_EQ(guest.send(0, {{kData, 4}, {kData + 8, 4, kWrite}}), 4U);
    EXPECT_EQ(guest.get<uint32_t>(kData + 8), 0U);
  }

  static constexpr uint64_t kSize = 2 << 20;
  disk_test::TempImage file_{kSize};
};

class ClockWork final : public Work {
  std::shared_ptr<VirtioDevice> make(Guest& /*guest*/, Side& side, bool /*first*/) override {
    return std::make_shared<VirtioClock>(side.loop);
  }
  void begin(Guest& guest, Side& /*side*/) override { read(guest); }
  void go_on(Guest& guest, Side& /*side*/) override {
    read(guest);
    EXPECT_EQ(guest.queues[0].used_index(), 2);
  }

  static void read(Guest& guest) {
    guest.put(kData, uint64_t{1});
    guest.put(kData + 8, uint64_t{0});
    EXPECT_EQ(guest.send(0, {{kData, 16}, {kData + 0x100, 16, kWrite}}), 16U);
  }
};

class MemWork final : public Work {
  std::shared_ptr<VirtioDevice> make(Guest& /*guest*/, Side& /*side*/, bool first) override {
    return std::make_shared<VirtioMem>(
        (first ? first_ : second_).blocks(), VirtioMem::Options{.id = "mem0", .node = {}},
        VirtioMemState{.requested_size = first ? 4 * Arena::kBlock : 0});
  }
  void begin(Guest& guest, Side& /*side*/) override { EXPECT_EQ(ask(guest, kPlug, 1, 2), 0); }
  void go_on(Guest& guest, Side& /*side*/) override {
    EXPECT_EQ(ask(guest, kState, 1, 2), 0);
    EXPECT_EQ(guest.get<uint16_t>(kAnswer + 8), 0) << "plugged";
    EXPECT_EQ(ask(guest, kPlug, 2, 1), kError) << "it is plugged already";
    EXPECT_EQ(ask(guest, kPlug, 4, 2), 0) << "the size that the host requests";
    EXPECT_EQ(guest.queues[0].used_index(), 4);
  }

  /// The type of the answer; 0 if it is done.
  static uint16_t ask(Guest& guest, uint16_t type, uint64_t block, uint16_t count) {
    guest.put(kData, uint64_t{type});
    guest.put(kData + 8, Arena::kAddress + block * Arena::kBlock);
    guest.put(kData + 16, uint64_t{count});
    EXPECT_EQ(guest.send(0, {{kData, 24}, {kAnswer, 10, kWrite}}), 10U);
    return guest.get<uint16_t>(kAnswer);
  }

  using Arena = memory_test::Arena;
  static constexpr uint16_t kPlug = 0;
  static constexpr uint16_t kState = 3;
  static constexpr uint16_t kError = 3;
  static constexpr GuestAddress kAnswer = kData + 0x100;
  Arena first_{8};
  Arena second_{8};
};

class IommuWork final : public Work {
  using RequestType = virtio_iommu::RequestType;

  std::shared_ptr<VirtioDevice> make(Guest& /*guest*/, Side& /*side*/, bool /*first*/) override {
    tables_ = std::make_shared<IommuTables>();
    endpoint_ = tables_->add_endpoint(kEndpoint);
    return std::make_shared<VirtioIommu>(tables_, 64, "__iommu");
  }
  void begin(Guest& guest, Side& /*side*/) override {
    guest.driver().write<uint8_t>(kConfig + offsetof(virtio_iommu::Config, bypass), 0);
    ask(guest, RequestType::kAttach, virtio_iommu::Attach{kDomain, kEndpoint, 0, 0});
    ask(guest, RequestType::kMap,
        virtio_iommu::Map{kDomain, 0x10000, 0x10fff, 0x5000, virtio_iommu::kMapRead});
  }
  void go_on(Guest& guest, Side& /*side*/) override {
    EXPECT_EQ(tables_->mappings(), 1U);
    ask(guest, RequestType::kUnmap, virtio_iommu::Unmap{kDomain, 0x10000, 0x10fff, 0});
    EXPECT_EQ(tables_->mappings(), 0U);
    ask(guest, RequestType::kDetach, virtio_iommu::Detach{kDomain, kEndpoint, {}});
    EXPECT_EQ(guest.queues[0].used_index(), 4);
  }

  template <typename Operands>
  static void ask(Guest& guest, RequestType type, const Operands& operands) {
    constexpr GuestAddress kAnswer = kData + 0x100;
    guest.put(kData, static_cast<uint32_t>(type));
    guest.put(kData + 4, operands);
    EXPECT_EQ(guest.send(0, {{kData, 4 + sizeof operands}, {kAnswer, 4, kWrite}}), 4U);
    EXPECT_EQ(guest.get<uint32_t>(kAnswer), 0U);
  }

  static constexpr uint32_t kEndpoint = 0x10;
  static constexpr uint32_t kDomain = 1;
  std::shared_ptr<IommuTables> tables_;
  std::shared_ptr<IommuEndpoint> endpoint_;
};

/// The kind that is in no machine (gadget.cc), which nothing but the list of kinds leads to.
class GadgetWork final : public Work {
  std::shared_ptr<VirtioDevice> make(Guest& guest, Side& side, bool first) override {
    const auto kind = std::ranges::find(device_kinds(), "gadget", &DeviceKind::name);
    message_test::SpecGrower spec(*kind, {{"level", first ? 5U : 6U}}, [](const std::string&) {
      return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    });
    const DeviceContext context{
        .memory = guest.memory,
        .loop = side.loop,
        .reset_machine = [](const char*) {},
        .reports_of = [](const std::string&) { return CharBackendReports{}; },
        .rate_limiters = limiters_,
        .cancellation = cancellation_,
        .iommu = iommu_};
    device_ = spec.read()->make("_gadget0", context);
    return device_;
  }
  void begin(Guest& guest, Side& /*side*/) override {
    EXPECT_EQ(guest.send(0, {{kData, 16, kWrite}}), 16U);
    EXPECT_EQ(guest.get<uint8_t>(kData + 15), 5);
    set_level(7);
  }
  void go_on(Guest& guest, Side& /*side*/) override {
    EXPECT_EQ(guest.send(0, {{kData, 16, kWrite}}), 16U);
    EXPECT_EQ(guest.get<uint8_t>(kData + 15), 7) << "the level that it was set to";
    EXPECT_EQ(device_->counters().at(0).value, 2U);
  }

  void set_level(uint64_t level) {
    CborWriter writer;
    writer.map(1).field("level", level);
    const std::vector<uint8_t> arguments = writer.take();
    MessageReader reader(arguments, {});
    reader.value().map([&](Fields& fields) {
      CborWriter answer;
      device_->operation("set-level", fields).value().run(answer, Deadline::now());
    });
  }

  std::shared_ptr<VirtioDevice> device_;
  RateLimiterGroups limiters_;
  Cancellation cancellation_;
  std::shared_ptr<IommuTables> iommu_ = std::make_shared<IommuTables>();
};

std::unique_ptr<Work> work_of(std::string_view kind) {
  using Make = std::unique_ptr<Work> (*)();
  static const std::map<std::string_view, Make> all{
      {"block", [] { return std::unique_ptr<Work>(new BlockWork); }},
      {"net", [] { return std::unique_ptr<Work>(new NetWork); }},
      {"rng", [] { return std::unique_ptr<Work>(new RngWork); }},
      {"console", [] { return std::unique_ptr<Work>(new ConsoleWork); }},
      {"watchdog", [] { return std::unique_ptr<Work>(new WatchdogWork); }},
      {"balloon", [] { return std::unique_ptr<Work>(new BalloonWork); }},
      {"vsock", [] { return std::unique_ptr<Work>(new VsockWork); }},
      {"pmem", [] { return std::unique_ptr<Work>(new PmemWork); }},
      {"rtc", [] { return std::unique_ptr<Work>(new ClockWork); }},
      {"mem", [] { return std::unique_ptr<Work>(new MemWork); }},
      {"iommu", [] { return std::unique_ptr<Work>(new IommuWork); }},
      {"gadget", [] { return std::unique_ptr<Work>(new GadgetWork); }},
  };
  const auto found = all.find(kind);
  return found == all.end() ? nullptr : found->second();
}

class DeviceKindState : public testing::TestWithParam<size_t> {};

/// As a machine is paused.
void hold(VirtioPciFunction& function, EventLoop& loop) {
  pause(function.device());
  loop.begin_pause();
  ASSERT_TRUE(loop.wait_paused(Deadline::never()));
}

TEST_P(DeviceKindState, GoesOnInAnotherDevice) {
  const std::string kind(device_kinds()[GetParam()].name);
  const std::unique_ptr<Work> work = work_of(kind);
  ASSERT_TRUE(work) << "a new kind of device needs its Work here: what of it a copy has to have";
  Guest guest;
  auto first = std::make_unique<Side>(guest.memory);
  guest.moved_to(*first);
  VirtioPciFunction& function =
      first->host.add(kSlot, "dev", work->make(guest, *first, true), kBar);
  guest.start();
  work->begin(guest, *first);
  ASSERT_FALSE(testing::Test::HasFailure());
  const uint32_t config_size = function.device().config_size();
  const std::vector<uint8_t> registers = guest.registers(config_size);

  hold(function, first->loop);
  const VirtioPciState state = function.state();
  const auto vector = static_cast<size_t>(work->interrupting_queue() + 1);
  EXPECT_TRUE(state.msix.vectors.at(vector).pending);
  first->host.config_write<uint16_t>(kSlot, pci_register::kCommand, 0);
  first->loop.resume();
  function.device().resume();
  first.reset();

  Side second(guest.memory);
  guest.moved_to(second);
  second.host.add(kSlot, "dev", work->make(guest, second, false), kBar, true, &state);
  EXPECT_EQ(guest.registers(config_size), registers);
  EXPECT_EQ(second.host.fabric.triggers(), 0);
  guest.driver().write<uint32_t>(virtio_pci::kMsixTableOffset + 16 * vector + 12, 0);
  EXPECT_EQ(second.host.fabric.triggers(), 1) << "an interrupt that was pending";
  work->go_on(guest, second);
  EXPECT_EQ(guest.driver().status(), 15);
}

INSTANTIATE_TEST_SUITE_P(All, DeviceKindState, testing::Range(size_t{0}, device_kinds().size()),
                         [](const auto& info) {
                           return std::string(device_kinds()[info.param].name);
                         });

}  // namespace
}  // namespace tsvmm::virtio_test

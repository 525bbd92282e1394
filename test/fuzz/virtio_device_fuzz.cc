// Devices behind virtio-pci with a driver that is a fuzzer: registers of every width, guest memory,
// doorbells in any order.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "disk/raw_image.h"
#include "fuzz_input.h"
#include "image_test_support.h"
#include "net/stream_backend.h"
#include "virtio/balloon.h"
#include "virtio/block.h"
#include "virtio/console.h"
#include "virtio/net.h"
#include "virtio/rng.h"
#include "virtio/vsock.h"
#include "virtio/watchdog.h"
#include "virtio_mock_driver.h"
#include "vsock_test_support.h"

using namespace tsvmm;
using namespace tsvmm::virtio_test;

namespace {

constexpr GuestAddress kBar = PciBench::kWindow64;
constexpr GuestAddress kRings = 0x1000;
constexpr uint64_t kRingStride = 0x1000;
constexpr uint16_t kQueueSize = 8;

EventLoop& loop() {
  static EventLoop instance("fuzz");
  return instance;
}

std::shared_ptr<VirtioDevice> make_block() {
  UniqueFd file(::memfd_create("disk", MFD_CLOEXEC));
  if (::ftruncate(file.get(), 1 << 20) != 0) std::abort();
  return std::make_shared<VirtioBlock>(
      std::make_unique<RawImage>(file.get(), false),
      VirtioBlock::Options{.id = "_disk0", .num_queues = 2, .queue_size = kQueueSize});
}

std::shared_ptr<VirtioDevice> make_rng() {
  static const UniqueFd source(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  return std::make_shared<VirtioRng>(source.get(), loop(), "_rng0");
}

std::shared_ptr<VirtioDevice> make_console() {
  return std::make_shared<VirtioConsole>(make_char_backend({}, loop(), {}), loop(), 80, 25);
}

std::shared_ptr<VirtioDevice> make_watchdog() {
  return std::make_shared<VirtioWatchdog>(loop(), [] {});
}

std::shared_ptr<VirtioDevice> make_balloon() {
  return std::make_shared<VirtioBalloon>(
      loop(),
      VirtioBalloon::Options{.size = 1 << 20, .deflate_on_oom = true, .free_page_reporting = true});
}

/// Listens where the guest's streams to port 1 arrive, too; they wait there for nobody.
std::shared_ptr<VirtioDevice> make_vsock() {
  static const disk_test::TempFolder folder;
  const std::string path = folder / "vsock";
  std::filesystem::remove(path);
  std::filesystem::remove(path + "_1");
  const HostSocket listener = HostSocket::listen(path);
  static std::optional<HostSocket> port;
  port = HostSocket::listen(path + "_1");
  static std::optional<HostSocket> client;
  client = HostSocket::connect(path);
  (void)client->offer("CONNECT 1\n");
  return std::make_shared<VirtioVsock>(VirtioVsock::Options{
      .id = "_vsock0", .guest_cid = 3, .listener = listener.fd(), .path = path});
}

/// The frames' other end sends back what it gets, through one socket pair.
std::shared_ptr<VirtioDevice> make_net() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    std::abort();
  }
  static UniqueFd other;
  other.reset(ends[1]);
  return std::make_shared<VirtioNet>(
      std::make_unique<StreamBackend>(UniqueFd(ends[0])),
      VirtioNet::Options{.id = "_net0", .mac = {0x2e, 0, 0, 0, 0, 1}, .queue_size = kQueueSize});
}

constexpr std::array kDevices{make_block,   make_rng,   make_console, make_watchdog,
                              make_balloon, make_vsock, make_net};

/// Up to DRIVER_OK as a driver should, so that the fuzzer need not find the way there.
void bring_up(PciDriver& driver, PciBench& bench, const std::vector<uint16_t>& sizes) {
  driver.negotiate(driver.device_features());
  for (uint16_t i = 0; i < sizes.size(); ++i) {
    DriverQueue queue(bench.memory, kRings + i * kRingStride, std::min(kQueueSize, sizes[i]));
    driver.set_up(i, queue.config(), static_cast<uint16_t>(i + 1));
  }
  driver.start();
}

/// What a socket device takes for a packet of one of its streams, most of the time.
void put_vsock_header(fuzz::Input& input, PciBench& bench, GuestAddress address) {
  const vsock::Header header{.src_cid = 3,
                             .dst_cid = 2,
                             .src_port = input.take<uint8_t>() % 4U,
                             .dst_port = 1U + input.take<uint8_t>() % 2U,
                             .len = input.take<uint16_t>(),
                             .type = 1,
                             .op = static_cast<uint16_t>(input.take<uint8_t>() % 9),
                             .flags = input.take<uint8_t>() & 7U,
                             .buf_alloc = input.take<uint32_t>(),
                             .fwd_cnt = input.take<uint32_t>()};
  (void)bench.memory.write(address, header);
}

/// One chain of up to three descriptors that begins as the fuzzer says.
void offer(fuzz::Input& input, PciBench& bench, PciDriver& driver, size_t queue_count) {
  const uint16_t queue = static_cast<uint16_t>(input.take<uint8_t>() % queue_count);
  DriverQueue rings(bench.memory, kRings + queue * kRingStride, kQueueSize);
  const auto count = static_cast<uint16_t>(1 + input.take<uint8_t>() % 3);
  for (uint16_t i = 0; i < count; ++i) {
    const GuestAddress address = 0x8000 + input.take<uint16_t>();
    const auto bytes = input.take_bytes(input.take<uint8_t>());
    (void)bench.memory.write(address, bytes);
    if (i == 0 && (input.take<uint8_t>() & 1)) put_vsock_header(input, bench, address);
    const uint16_t flags =
        static_cast<uint16_t>((input.take<uint8_t>() & kWrite) | (i + 1 == count ? 0 : kNext));
    rings.descriptor(i, address, input.take<uint16_t>(), flags, static_cast<uint16_t>(i + 1));
  }
  const auto index = bench.memory.read<uint16_t>(rings.config().available_ring + 2);
  (void)bench.memory.write(rings.config().available_ring + 4 + 2 * uint64_t(*index % kQueueSize),
                           uint16_t{0});
  (void)bench.memory.write(rings.config().available_ring + 2, static_cast<uint16_t>(*index + 1));
  driver.kick(queue);
}

void act(fuzz::Input& input, PciBench& bench, PciDriver& driver, size_t queue_count) {
  switch (input.take<uint8_t>() % 6) {
    case 0:
      offer(input, bench, driver, queue_count);
      break;
    case 1: {
      std::array<uint8_t, 8> bytes{};
      bench.mmio.read(kBar + input.take<uint32_t>() % 0x80000,
                      std::span(bytes).first(size_t{1} << (input.take<uint8_t>() & 3)));
      break;
    }
    case 2: {
      const uint64_t offset = input.take<uint16_t>();
      const auto bytes = input.take_bytes(size_t{1} << (input.take<uint8_t>() & 3));
      if (!bytes.empty()) bench.mmio.write(kBar + offset, bytes);
      break;
    }
    case 3:
      driver.kick(static_cast<uint16_t>(input.take<uint8_t>() % queue_count));
      break;
    case 4: {
      const auto address = kRings + input.take<uint16_t>() % 0x4000;
      (void)bench.memory.write(address, input.take_bytes(input.take<uint8_t>() % 32));
      break;
    }
    default:
      bench.config_write<uint32_t>(1, input.take<uint8_t>() & 0xfcU, input.take<uint32_t>());
  }
  // What rang before is served before the next action, as often as not.
  if (input.take<uint8_t>() & 1) loop().call([] {});
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  PciBench bench;
  const auto device = kDevices[input.take<uint8_t>() % kDevices.size()]();
  const std::vector<uint16_t> sizes = device->queue_sizes();
  bench.add(1, "fuzzed", device, kBar);
  bench.config_write<uint16_t>(1, 4, 2);
  PciDriver driver(bench, kBar);
  bring_up(driver, bench, sizes);
  for (int i = 0; i < 64 && !input.empty(); ++i) act(input, bench, driver, sizes.size());
  return 0;
}

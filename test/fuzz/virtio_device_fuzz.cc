// Devices behind virtio-pci with a driver that is a fuzzer: registers of every width, guest memory,
// doorbells in any order.
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "core/error.h"
#include "core/event_loop.h"
#include "core/unique_fd.h"
#include "fuzz_input.h"
#include "image_test_support.h"
#include "spec_grower.h"
#include "virtio/device_kind.h"
#include "virtio_mock_driver.h"
#include "vsock_test_support.h"

using namespace tsvmm;
using namespace tsvmm::virtio_test;

namespace {

constexpr GuestAddress kBar = PciBench::kWindow64;
constexpr GuestAddress kRings = 0x1000;
constexpr uint64_t kRingStride = 0x1000;
constexpr uint16_t kQueueSize = 8;
/// What persistent memory has to have.
constexpr uint64_t kFileSize = 2 << 20;

EventLoop& loop() {
  static EventLoop instance("fuzz");
  return instance;
}

UniqueFd memory_file() {
  UniqueFd file(::memfd_create("disk", MFD_CLOEXEC));
  if (::ftruncate(file.get(), kFileSize) != 0) std::abort();
  return file;
}

const disk_test::TempFolder& folder() {
  static const disk_test::TempFolder instance;
  return instance;
}

/// Listens where the guest's streams to port 1 arrive, too; they wait there for nobody.
UniqueFd vsock_listener() {
  const std::string path = folder() / "vsock";
  std::filesystem::remove(path);
  std::filesystem::remove(path + "_1");
  const HostSocket listener = HostSocket::listen(path);
  static std::optional<HostSocket> port;
  port = HostSocket::listen(path + "_1");
  static std::optional<HostSocket> client;
  client = HostSocket::connect(path);
  (void)client->offer("CONNECT 1\n");
  return UniqueFd::duplicate(listener.fd());
}

/// One end of a stream of frames, whose other end nobody reads.
UniqueFd frame_stream() {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends.data()) != 0) {
    std::abort();
  }
  static UniqueFd other;
  other.reset(ends[1]);
  return UniqueFd(ends[0]);
}

/// By what the field is called: files are what most of them are.
UniqueFd host_end(const std::string& path) {
  if (path.ends_with("listener")) return vsock_listener();
  if (path.ends_with("network.fd")) return frame_stream();
  return memory_file();
}

/// A device of a kind, whatever kinds there are.
std::shared_ptr<VirtioDevice> make(const DeviceKind& kind, GuestMemory& memory) {
  static const std::string vsock_path = folder() / "vsock";
  static std::map<std::string_view, message_test::SpecGrower> grown;
  const auto [found, _] =
      grown.try_emplace(kind.name, kind,
                        std::vector<message_test::SpecGrower::Known>{{"queueSize", kQueueSize},
                                                                     {"numQueues", 2},
                                                                     {"size", kFileSize},
                                                                     {"cid", 3},
                                                                     {"addressBits", 48},
                                                                     {"deflateOnOom", 1},
                                                                     {"freePageReporting", 1},
                                                                     {"checksum", 1},
                                                                     {"sparse", 1},
                                                                     {"zone", 0, "mem0"},
                                                                     {"blockSize", kFileSize},
                                                                     {"requestedSize", 16 << 20},
                                                                     {"path", 0, vsock_path}},
                        host_end);
  static RateLimiterGroups limiters;
  static const Cancellation never;
  static const auto iommu = std::make_shared<IommuTables>();
  static const auto endpoint = iommu->add_endpoint(1);
  const DeviceContext context{.memory = memory,
                              .loop = loop(),
                              .reset_machine = [](const char*) {},
                              .reports_of = [](const std::string&) { return CharBackendReports{}; },
                              .rate_limiters = limiters,
                              .cancellation = never,
                              .iommu = iommu};
  return found->second.read()->make("_fuzzed0", context);
}

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

/// What a memory device takes for a request, most of the time.
void put_memory_request(fuzz::Input& input, PciBench& bench, GuestAddress address) {
  constexpr uint64_t kBlock = 2 << 20;
  (void)bench.memory.write<uint64_t>(address, input.take<uint8_t>() % 5);
  (void)bench.memory.write<uint64_t>(
      address + 8, PciBench::kHotplugMemory + input.take<uint8_t>() % 18 * kBlock);
  (void)bench.memory.write<uint64_t>(address + 16, input.take<uint8_t>() % 20);
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
    const uint8_t known = i == 0 ? input.take<uint8_t>() & 3 : 0;
    if (known == 1) put_vsock_header(input, bench, address);
    if (known == 2) put_memory_request(input, bench, address);
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

/// What is said to be a copy of a function like `fresh`: most of it as a driver could have set it
/// up, or all of it anything.
VirtioPciState invent_state(fuzz::Input& input, VirtioPciFunction& fresh, PciBench& bench) {
  VirtioPciState state = fresh.state();
  const auto anything = [&input] { return (input.take<uint8_t>() & 1) != 0; };
  state.common.status = anything() ? input.take<uint8_t>() : 15;
  state.common.driver_features =
      anything() ? input.take<uint64_t>() : fresh.device().features() | virtio_feature::kVersion1;
  for (size_t i = 0; i < state.common.queues.size(); ++i) {
    CommonConfigState::Queue& queue = state.common.queues[i];
    const auto size = std::min(kQueueSize, queue.rings.size);
    queue.rings = DriverQueue(bench.memory, kRings + i * kRingStride, size).config();
    if (anything()) queue.rings.size = input.take<uint16_t>();
    if (anything()) queue.rings.used_ring = input.take<uint64_t>();
    queue.vector = input.take<uint8_t>() & 3;
    queue.enabled = !anything();
    queue.progress = {.next_available = input.take<uint16_t>(),
                      .next_used = input.take<uint16_t>()};
  }
  for (MsixState::Vector& vector : state.msix.vectors) vector.control = input.take<uint8_t>() & 1;
  state.msix.enabled = anything();
  const auto device = input.take_bytes(input.take<uint8_t>());
  if (!device.empty()) state.device.assign(device.begin(), device.end());
  return state;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  fuzz::Input input(data, size);
  PciBench bench;
  const auto kinds = device_kinds();
  const DeviceKind& kind = kinds[input.take<uint8_t>() % kinds.size()];
  const auto device = make(kind, bench.memory);
  const std::vector<uint16_t> sizes = device->queue_sizes();
  // The platform gives every device a place that is large enough.
  const DeviceMemory* memory = device->device_memory();
  if (memory != nullptr && memory->size() > PciBench::kWindowSize / 2) return 0;
  VirtioPciFunction& fresh = bench.add(1, "fuzzed", device, kBar);
  PciDriver driver(bench, kBar);
  if ((input.take<uint8_t>() & 1) != 0) {
    const VirtioPciState state = invent_state(input, fresh, bench);
    (void)bench.root.remove(1);
    try {
      bench.add(1, "fuzzed", make(kind, bench.memory), kBar, true, &state);
    } catch (const Error&) {
      return 0;  // It could not have been one.
    }
  } else {
    bench.config_write<uint16_t>(1, 4, 2);
    bring_up(driver, bench, sizes);
  }
  for (int i = 0; i < 64 && !input.empty(); ++i) act(input, bench, driver, sizes.size());
  return 0;
}

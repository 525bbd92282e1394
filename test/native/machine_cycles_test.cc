#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <thread>

#include "core/unique_fd.h"
#include "disk_test_support.h"
#include "machine_kvm_guest.h"
#include "table_guest.h"

/// Devices, memory and vCPUs that come to a guest of KVM's and leave it, again and again, while it
/// has I/O in flight on them. The sanitizers are what this is for.
namespace tsvmm::machine_test {
namespace {

using Type = MachineEvent::Type;
using disk_test::TempImage;
using namespace virtio_test;

/// TSVMM_HOTPLUG_CYCLES, for a long run.
int cycles() {
  constexpr int kCycles = 300;
  const char* wanted = std::getenv("TSVMM_HOTPLUG_CYCLES");
  return wanted == nullptr ? kCycles : std::atoi(wanted);
}

/// Counts what it is told.
class CountingSink final : public MachineEventSink {
 public:
  void emit(MachineEvent event) noexcept override { ++counts_[static_cast<size_t>(event.type)]; }
  [[nodiscard]] unsigned of(Type type) const { return counts_[static_cast<size_t>(type)]; }

 private:
  std::array<std::atomic<unsigned>, 64> counts_{};
};

class KvmHotplugCycles : public MachineTest {
 protected:
  static constexpr unsigned kDisk = 1;
  static constexpr unsigned kVsock = 2;
  static constexpr unsigned kNet = 3;
  static constexpr unsigned kPmem = 4;
  static constexpr GuestAddress kController = 0xfe000020;
  static constexpr GuestAddress kMemoryController = 0xfe000030;
  static constexpr GuestAddress kLocalApic = 0xfee00000;
  static constexpr GuestAddress kLateCode = 0x2000;
  static constexpr GuestAddress kGrowth = 0x100000000;
  static constexpr uint64_t kMemoryStep = 128 << 20;
  static constexpr uint64_t kPmemSize = 2 << 20;
  static constexpr uint64_t kMemorySlots = 8;

  void SetUp() override {
    try {
      cpuid = read_supported_cpuid(KvmDevice());
    } catch (const Error& error) {
      GTEST_SKIP() << error.what();
    }
    ASSERT_EQ(::ftruncate(pmem_file.get(), kPmemSize), 0);
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, network.data()), 0);
    listener = UniqueFd(::socket(AF_UNIX, SOCK_STREAM, 0));
    const sockaddr_un anywhere{.sun_family = AF_UNIX, .sun_path = {}};
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&anywhere),
                     sizeof anywhere.sun_family),
              0);
    boot();
  }
  void TearDown() override {
    if (machine) machine->destroy();
    for (const int fd : network) ::close(fd);
  }

  void boot() {
    MachineSpec spec = with_cpuid(machine_spec(1), cpuid);
    spec.memory_growth = MemoryRange{kGrowth, kMemorySlots * kMemoryStep};
    machine = std::make_unique<Machine>(std::move(spec), events);
    machine->build(kvm_maker(nullptr));
    BootSpec boot = boot_spec();
    boot.board->cpu_hotplug = {.address = kController, .present = 1, .most = 2};
    boot.board->memory_hotplug = MemoryHotplugSpec{.address = kMemoryController, .proximity = 0};
    put_flat_guest(boot,
                   player(rings_of(kDisk), bar_of(kDisk) + virtio_pci::kNotifyOffset, kPlayAgain));
    boot.load.emplace_back(LoadBytes{kTable, drivers()});
    boot.load.emplace_back(LoadBytes{rings_of(kDisk).descriptors, write_request()});
    // A late vCPU's, in real mode: writes to port 0x80.
    boot.load.emplace_back(LoadBytes{kLateCode, std::vector<uint8_t>{0xe6, 0x80, 0xeb, 0xfc}});
    boot.load.emplace_back(LoadBytes{kHeader, write_header()});
    machine->boot(std::move(boot));
  }

  static Rings rings_of(unsigned slot) { return {0x10000 + slot * 0x1000}; }

  /// Gives up all that it is asked for, with what is in flight, and begins with all that has come.
  static std::vector<uint8_t> drivers() {
    WriteTable table;
    table.add(kHotplug + 12, 0, 4);
    table.add(kHotplug + 8, ~0U, 4);
    table.add(kController, 1, 4);
    table.add(kController + 4, 8, 1);
    // INIT and SIPI (SDM vol. 3 §11.6.1).
    table.add(kLocalApic + 0x310, 1U << 24, 4);
    table.add(kLocalApic + 0x300, 0x4500, 4);
    table.add(kLocalApic + 0x300, 0x4600 | (kLateCode >> 12), 4);
    add_driver(table, kDisk, virtio_block::kFeatureFlush, 1);
    add_driver(table, kVsock, 0, 2);
    add_driver(table, kNet, 0, 2);
    add_driver(table, kPmem, 0, 1);
    return table.finish(16);
  }
  static void add_driver(WriteTable& table, unsigned slot, uint32_t features, unsigned queues) {
    const Rings rings = rings_of(slot);
    table.add(kEcam + (uint64_t{slot} << 15) + 4, kPciCommandMemory, 2);
    const auto put = [&table, slot](uint32_t offset, uint32_t value, uint32_t width) {
      table.add(bar_of(slot) + offset, value, width);
    };
    for (const uint32_t status : {0, 1, 3}) put(0x14, status, 1);
    table.add(rings.available(), 0, 4);
    table.add(rings.used(), 0, 4);
    put(0x08, 0, 4);
    put(0x0c, features, 4);
    put(0x08, 1, 4);
    put(0x0c, 1, 4);
    put(0x14, 11, 1);
    for (unsigned queue = 0; queue < queues; ++queue) {
      put(0x16, queue, 2);
      put(0x18, kQueueSize, 2);
      put(0x1a, kNoVector, 2);
      put(0x20, static_cast<uint32_t>(rings.descriptors), 4);
      put(0x28, static_cast<uint32_t>(rings.available()), 4);
      put(0x30, static_cast<uint32_t>(rings.used()), 4);
      put(0x1c, 1, 2);
    }
    put(0x14, 15, 1);
  }

  PciFunctionSpec function(const std::string& id, unsigned slot,
                           std::unique_ptr<DeviceSpec> device) {
    return {.id = id, .place = {0, slot}, .bar0 = bar_of(slot), .device = std::move(device)};
  }
  PciFunctionSpec disk() { return function("disk", kDisk, disk_on(image.fd(), kQueueSize)); }
  PciFunctionSpec vsock() {
    message_test::MessageBuilder spec;
    spec.writer().map(4).field("cid", 3).field("path", "").key("anyOwner").boolean(false);
    spec.writer().key("listener");
    spec.descriptor(listener.get());
    return function("vsock", kVsock, device_of("vsock", spec.take()));
  }
  PciFunctionSpec net() {
    message_test::MessageBuilder spec;
    spec.writer().map(6).key("mac").bytes(std::array<uint8_t, 6>{2, 0, 0, 0, 0, 1});
    spec.writer().field("queueSize", kQueueSize);
    for (const auto* off : {"checksum", "tso", "ufo"}) spec.writer().key(off).boolean(false);
    spec.writer().key("network").map(2).field("kind", "stream").key("fd");
    spec.descriptor(network[0]);
    return function("net", kNet, device_of("net", spec.take()));
  }
  PciFunctionSpec pmem() {
    message_test::MessageBuilder spec;
    spec.writer().map(3).field("size", kPmemSize).key("discardWrites").boolean(false).key("fd");
    spec.descriptor(pmem_file.get());
    PciFunctionSpec made = function("pmem", kPmem, device_of("pmem", spec.take()));
    made.bar2 = 0x4000000000;
    return made;
  }

  /// Waits until the guest has given up as many devices as it was asked for.
  void await_ejections(unsigned count) {
    ejections += count;
    ASSERT_TRUE(eventually([this] { return events.of(Type::kDeviceEjected) == ejections; }));
  }
  /// How many requests of the disk have been served.
  uint64_t served() {
    for (const auto& [id, counters] : machine->counters()) {
      const auto found = std::ranges::find(counters, std::string_view("write_ops"), &Counter::name);
      if (id == "disk" && found != counters.end()) return found->value;
    }
    return 0;
  }
  /// All come, are used, and leave: as the guest gives them up, or with `force` before.
  void go_round(int round) {
    const bool force = round % 4 == 0;
    std::vector<std::string> ids;
    const auto plug = [&](PciFunctionSpec spec) {
      ids.push_back(spec.id);
      machine->plug(std::move(spec));
    };
    plug(disk());
    if (round % 2 == 0) plug(net());
    if (round % 3 == 0) plug(vsock());
    if (round % 5 == 0) plug(pmem());
    const bool vcpu = round % 7 == 0;
    if (vcpu) machine->plug_vcpus({{.index = 1, .vcpu = vcpu_spec(1, cpuid)}});
    ASSERT_TRUE(eventually([this] { return served() > 0; })) << "round " << round;
    for (const std::string& id : ids) machine->request_unplug(id);
    if (vcpu) machine->request_vcpu_unplug(1);
    if (!force) await_ejections(static_cast<unsigned>(ids.size()));
    for (const std::string& id : ids) machine->finish_unplug(id, force);
    if (force) await_ejections(static_cast<unsigned>(ids.size()));
    if (vcpu) {
      ++vcpu_ejections;
      ASSERT_TRUE(eventually([this] { return events.of(Type::kVcpuEjected) == vcpu_ejections; }));
    }
  }

  struct Usage {
    size_t descriptors;
    size_t threads;
    bool operator==(const Usage&) const = default;
  };
  static size_t entries(const char* folder) {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(folder), {}));
  }
  static Usage usage() { return {entries("/proc/self/fd"), entries("/proc/self/task")}; }
  static size_t maps() {
    std::ifstream file("/proc/self/maps");
    size_t lines = 0;
    for (std::string line; std::getline(file, line);) ++lines;
    return lines;
  }

  CountingSink events;
  std::vector<uint8_t> cpuid;
  TempImage image{1 << 20};
  UniqueFd pmem_file{::memfd_create("pmem", MFD_CLOEXEC)};
  UniqueFd listener;
  std::array<int, 2> network{-1, -1};
  unsigned ejections = 0;
  unsigned vcpu_ejections = 0;
};

/// Whoever asks for figures does so from other threads; one that is refused has come at a bad
/// moment.
class Inquirer {
 public:
  explicit Inquirer(Machine& machine)
      : thread_([this, &machine] {
          while (!over_) {
            try {
              (void)machine.counters();
              (void)machine.status();
              (void)machine.vcpu_statistics();
            } catch (const Error& error) {
              EXPECT_STREQ(error.code().c_str(), "EBUSY");
            }
            std::this_thread::sleep_for(std::chrono::milliseconds(1));
          }
        }) {}
  ~Inquirer() {
    over_ = true;
    thread_.join();
  }
  Inquirer(const Inquirer&) = delete;
  Inquirer& operator=(const Inquirer&) = delete;

 private:
  std::atomic<bool> over_ = false;
  std::thread thread_;
};

TEST_F(KvmHotplugCycles, LeaveNothingBehind) {
  // What is made once: the thread of a vCPU that has been there, for one.
  go_round(0);
  if (HasFatalFailure()) return;
  const Usage before = usage();
  const size_t maps_before = maps();
  const int rounds = cycles();
  std::optional<Inquirer> inquirer(std::in_place, *machine);
  for (int round = 1; round <= rounds && !HasFatalFailure(); ++round) {
    if (static_cast<uint64_t>(round) <= kMemorySlots) machine->add_memory(kMemoryStep);
    if (round % 10 == 0) {
      machine->pause();
      machine->resume();
    }
    go_round(round);
  }
  inquirer.reset();
  EXPECT_TRUE(eventually([&] { return usage() == before; }));
  // The address space of persistent memory is the machine's, and sanitizers keep something of each
  // piece, too.
  EXPECT_LT(maps(), maps_before + static_cast<size_t>(rounds) + 200);
  EXPECT_EQ(open_descriptors_of(image.fd()), 1U);
  EXPECT_EQ(open_descriptors_of(pmem_file.get()), 1U);
  EXPECT_EQ(events.of(Type::kVcpuError), 0U);
}

}  // namespace
}  // namespace tsvmm::machine_test

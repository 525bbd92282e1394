#pragma once

#include <sys/stat.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <filesystem>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "hypervisor/x86_64/access_handler.h"
#include "hypervisor/x86_64/vcpu_setup.h"
#include "machine/machine.h"
#include "machine/x86_64/board_spec.h"
#include "message_test_support.h"
#include "threads_named.h"
#include "virtio/device_kind.h"
#include "virtio_mock_driver.h"

/// Machines without a hypervisor: their vCPUs do what a test tells them.
namespace tsvmm::machine_test {

/// What runs on the vCPUs of a machine, for the test that made it.
class FakeGuest {
 public:
  using Task = std::function<void(AccessHandler& machine)>;

  /// After whatever its last vCPU did, which nobody may have waited for.
  ~FakeGuest() { const std::lock_guard lock(mutex_); }

  /// Has a vCPU do this; it is done when the vCPU has come back from its accesses.
  void run(unsigned vcpu, Task task) {
    auto done = begin(vcpu, std::move(task));
    EXPECT_TRUE(eventually([&] { return done->load(); })) << "vCPU " << vcpu << " is stuck";
  }
  std::shared_ptr<std::atomic<bool>> begin(unsigned vcpu, Task task) {
    auto done = std::make_shared<std::atomic<bool>>(false);
    const std::lock_guard lock(mutex_);
    tasks_[vcpu].push_back([task = std::move(task), done](AccessHandler& machine) {
      task(machine);
      *done = true;
    });
    changed_.notify_all();
    return done;
  }
  /// The same; returns when the vCPU has begun with it.
  std::shared_ptr<std::atomic<bool>> occupy(unsigned vcpu, const std::shared_future<void>& until) {
    auto begun = std::make_shared<std::atomic<bool>>(false);
    auto done = begin(vcpu, [begun, until](AccessHandler&) {
      *begun = true;
      until.wait();
    });
    EXPECT_TRUE(eventually([&] { return begun->load(); }));
    return done;
  }
  /// For another machine's vCPUs: nothing is left to do.
  void forget() {
    const std::lock_guard lock(mutex_);
    tasks_.clear();
    exits_.clear();
  }
  /// The host takes until then to set a vCPU up.
  void delay_set_up(unsigned vcpu, std::shared_future<void> until) {
    const std::lock_guard lock(mutex_);
    set_up_delays_[vcpu] = std::move(until);
  }
  /// Where vCPUs were told to begin.
  [[nodiscard]] std::vector<uint64_t> entries() {
    const std::lock_guard lock(mutex_);
    return entries_;
  }
  /// How often vCPUs were made new ones.
  [[nodiscard]] unsigned resets() const { return resets_; }
  /// The host takes until then to make them.
  void delay_resets(std::shared_future<void> until) {
    const std::lock_guard lock(mutex_);
    reset_delay_ = std::move(until);
  }
  /// Makes a vCPU's run() return.
  void exit(unsigned vcpu, VcpuExit::Reason reason) {
    const std::lock_guard lock(mutex_);
    exits_[vcpu] = reason;
    changed_.notify_all();
  }

 private:
  friend class FakeVcpu;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::map<unsigned, std::deque<Task>> tasks_;
  std::map<unsigned, VcpuExit::Reason> exits_;
  std::vector<uint64_t> entries_;
  std::atomic<unsigned> resets_ = 0;
  std::shared_future<void> reset_delay_;
  std::map<unsigned, std::shared_future<void>> set_up_delays_;
};

/// Remembers what it was told.
class FakeVcpuDebug final : public VcpuDebug {
 public:
  void set_traps(const DebugTraps& traps, bool single_step) override {
    if (traps.hardware.size() > DebugTraps::kMaxHardware) throw Error("EINVAL", "too many");
    steps_ = single_step;
  }
  std::vector<uint8_t> registers(RegisterSet) override {
    return {steps_ ? uint8_t{1} : uint8_t{0}};
  }
  void set_registers(RegisterSet, std::span<const uint8_t>) override {}
  std::optional<GuestAddress> translate(uint64_t address) override { return address; }

 private:
  bool steps_ = false;
};

/// Of a vCPU that cannot be set up.
inline std::shared_ptr<const VcpuSetup> refused_setup() {
  return std::make_shared<const VcpuSetup>(VcpuSetup{.cpuid = {1}, .msrs = {}});
}

/// One that can be.
inline VcpuSpec vcpu_spec(uint32_t id) {
  return {.id = id, .affinity = {}, .setup = std::make_shared<const VcpuSetup>()};
}

class FakeVcpu final : public Vcpu {
 public:
  FakeVcpu(FakeGuest& guest, unsigned id) : guest_(guest), id_(id) {}
  void set_up(const VcpuSetup& setup) override {
    std::unique_lock lock(guest_.mutex_);
    const std::shared_future<void> delay = guest_.set_up_delays_[id_];
    lock.unlock();
    if (delay.valid()) delay.wait();
    if (setup.cpuid == refused_setup()->cpuid) throw Error("EINVAL", "no such processor");
  }
  void set_entry(const VcpuEntry& entry) override {
    if (entry.rip == 0) throw Error("EINVAL", "no code");
    const std::lock_guard lock(guest_.mutex_);
    guest_.entries_.push_back(entry.rip);
  }
  void reset(const VcpuSetup& setup) override {
    std::unique_lock lock(guest_.mutex_);
    const std::shared_future<void> delay = guest_.reset_delay_;
    lock.unlock();
    if (delay.valid()) delay.wait();
    set_up(setup);
    ++guest_.resets_;
  }
  VcpuExit run(AccessHandler& handler) override {
    std::unique_lock lock(guest_.mutex_);
    auto& tasks = guest_.tasks_[id_];
    auto& exits = guest_.exits_;
    for (;;) {
      guest_.changed_.wait(lock, [&] { return kicked_ || !tasks.empty() || exits.contains(id_); });
      if (std::exchange(kicked_, false)) return {.reason = VcpuExit::Reason::kKicked, .detail = {}};
      if (const auto exit = exits.extract(id_)) return {.reason = exit.mapped(), .detail = {}};
      const auto task = std::move(tasks.front());
      tasks.pop_front();
      lock.unlock();
      task(handler);
      lock.lock();
    }
  }
  void kick() noexcept override {
    const std::lock_guard lock(guest_.mutex_);
    kicked_ = true;
    guest_.changed_.notify_all();
  }
  void inject_nmi() noexcept override {}
  void mark_paused() noexcept override {}
  VcpuDebug& debug() noexcept override { return debug_; }
  VcpuStatistics statistics() const override {
    return {.index = 0, .thread = static_cast<pid_t>(id_), .exits = {}, .hypervisor = {}};
  }

 private:
  FakeGuest& guest_;
  const unsigned id_;
  bool kicked_ = false;
  FakeVcpuDebug debug_;
};

class FakeVm final : public Vm {
 public:
  explicit FakeVm(FakeGuest& guest) : guest_(guest) {}
  std::unique_ptr<Interrupt> create_msi() override { return fabric_.create_msi(); }
  std::unique_ptr<Interrupt> create_wired_interrupt(unsigned pin) override {
    return fabric_.create_wired_interrupt(pin);
  }
  std::unique_ptr<DoorbellRegistration> register_doorbell(GuestAddress, const EventFd&) override {
    return nullptr;
  }
  std::unique_ptr<Vcpu> create_vcpu(uint32_t id) override {
    const std::lock_guard lock(mutex_);
    // As KVM: it is there for as long as the VM.
    if (!vcpus_.insert(id).second) throw Error("EEXIST", "there is such a vCPU already");
    return std::make_unique<FakeVcpu>(guest_, id);
  }
  void save_clock() noexcept override {}
  void restore_clock() noexcept override {}
  void begin_teardown() noexcept override {}

 private:
  FakeGuest& guest_;
  virtio_test::FakeFabric fabric_;
  std::mutex mutex_;
  std::set<uint32_t> vcpus_;
};

class RecordingSink : public MachineEventSink {
 public:
  void emit(MachineEvent event) noexcept override {
    const std::lock_guard lock(mutex_);
    events_.push_back(std::move(event));
  }
  std::vector<MachineEvent> of(MachineEvent::Type type) {
    const std::lock_guard lock(mutex_);
    std::vector<MachineEvent> found;
    for (const MachineEvent& event : events_) {
      if (event.type == type) found.push_back(event);
    }
    return found;
  }
  size_t count() {
    const std::lock_guard lock(mutex_);
    return events_.size();
  }

 private:
  std::mutex mutex_;
  std::vector<MachineEvent> events_;
};

/// A driver on a vCPU, for a function with its BAR at `bar`.
class VcpuDriver {
 public:
  VcpuDriver(AccessHandler& machine, GuestAddress bar) : machine_(machine), driver_(*this, bar) {}
  template <typename T>
  T mmio_read(GuestAddress address) {
    std::array<uint8_t, sizeof(T)> bytes{};
    machine_.mmio_read(address, bytes);
    return load<T>(bytes);
  }
  template <typename T>
  void mmio_write(GuestAddress address, T value) {
    std::array<uint8_t, sizeof(T)> bytes{};
    store(std::span<uint8_t>(bytes), value);
    machine_.mmio_write(address, bytes);
  }
  virtio_test::BarDriver<VcpuDriver>* operator->() { return &driver_; }

 private:
  AccessHandler& machine_;
  virtio_test::BarDriver<VcpuDriver> driver_;
};

/// A machine of 16 MiB with some vCPUs and what else a test adds to its specification.
class MachineTest : public testing::Test {
 protected:
  static constexpr GuestAddress kWindow = 0xc0000000;
  static constexpr GuestAddress kEcam = 0xd0000000;
  static constexpr GuestAddress kHotplug = 0xfe000010;

  static MachineSpec machine_spec(unsigned vcpus) {
    MachineSpec spec;
    spec.memory.push_back({.ranges = {{0, 16 << 20}}});
    for (unsigned i = 0; i < vcpus; ++i) spec.vcpus.push_back(vcpu_spec(i));
    return spec;
  }
  static BootSpec boot_spec() {
    BootSpec boot;
    boot.board = std::make_shared<BoardSpec>();
    boot.board->ioapic = 0xfec00000;
    boot.board->cmos_port = 0x70;
    boot.board->acpi_power_port = 0x5f0;
    boot.board->acpi_pm_timer_port = 0x608;
    boot.board->ged = 0xfe000000;
    boot.board->pci_hotplug = kHotplug;
    boot.pci.ecam = kEcam;
    boot.pci.segments = {
        {.window32 = {kWindow, 0x10000000}, .window64 = {0x4000000000, 0x10000000}}};
    return boot;
  }
  static GuestAddress bar_of(unsigned slot) { return kWindow + slot * virtio_pci::kBarSize; }
  void build(unsigned vcpus = 1) {
    machine = std::make_unique<Machine>(machine_spec(vcpus), sink);
    machine->build([this](GuestMemory& made, uint32_t) {
      memory = &made;
      return std::make_unique<FakeVm>(guest);
    });
  }
  /// What a specification says of a device of this kind.
  static std::unique_ptr<DeviceSpec> device_of(std::string_view kind, Message message) {
    const auto kinds = device_kinds();
    const auto found = std::ranges::find(kinds, kind, &DeviceKind::name);
    return message_test::read_map(std::move(message),
                                  [&](Fields& fields) { return found->read(fields); });
  }
  static std::unique_ptr<DeviceSpec> empty_balloon() {
    CborWriter balloon;
    balloon.map(3).field("size", 0).key("deflateOnOom").boolean(false);
    balloon.key("freePageReporting").boolean(false);
    return device_of("balloon", {.bytes = balloon.take(), .descriptors = {}});
  }
  /// A raw image, on a duplicate of the descriptor.
  static std::unique_ptr<DeviceSpec> disk_on(int fd, uint16_t queue_size) {
    message_test::MessageBuilder disk;
    disk.writer().map(11).field("numQueues", 1).field("queueSize", queue_size).field("serial", "");
    for (const auto* off :
         {"readonly", "direct", "disableIoUring", "disableAio", "protectSector0"}) {
      disk.writer().key(off).boolean(false);
    }
    disk.writer().key("sparse").boolean(true).key("queueCpus").array(0);
    disk.writer().key("layers").array(1).map(2).field("format", "raw").key("fd");
    disk.descriptor(fd);
    return device_of("block", disk.take());
  }
  void resize_disk(const std::string& id, uint64_t bytes,
                   std::chrono::milliseconds timeout = Machine::kTimeout) {
    CborWriter operands;
    operands.map(1).field("size", bytes);
    message_test::read_map({.bytes = operands.take(), .descriptors = {}}, [&](Fields& fields) {
      CborWriter answer;
      machine->operate(id, "resize", fields, answer, timeout);
    });
  }
  /// The code of the Error that `action` throws, "" if none; its message is kept.
  std::string code_of(const std::function<void()>& action) {
    try {
      action();
      return "";
    } catch (const Error& error) {
      message = error.what();
      return error.code();
    }
  }

  FakeGuest guest;
  RecordingSink sink;
  std::unique_ptr<Machine> machine;
  GuestMemory* memory = nullptr;
  std::string message;
};

inline constexpr std::chrono::milliseconds kShort{500};

/// How many descriptors this process has of the file behind `fd`.
inline size_t open_descriptors_of(int fd) {
  struct stat wanted {};
  EXPECT_EQ(::fstat(fd, &wanted), 0);
  size_t found = 0;
  // By their names: to touch a descriptor that another thread is about to close is a race.
  for (const auto& other : std::filesystem::directory_iterator("/proc/self/fd")) {
    struct stat info {};
    if (::stat(other.path().c_str(), &info) != 0) continue;
    found += info.st_ino == wanted.st_ino && info.st_dev == wanted.st_dev ? 1 : 0;
  }
  return found;
}

}  // namespace tsvmm::machine_test

#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "bus/address_space.h"
#include "core/bytes.h"
#include "device_test_support.h"
#include "hypervisor/hypervisor.h"
#include "memory/guest_memory.h"
#include "pci/pci_root.h"
#include "virtio/pci_layout.h"
#include "virtio/pci_transport.h"
#include "virtio/queue.h"

/// The driver's side of virtio, well-behaved or not, for tests.
namespace tsvmm::virtio_test {

inline constexpr uint16_t kNext = 1;
inline constexpr uint16_t kWrite = 2;
inline constexpr uint16_t kIndirect = 4;

inline GuestMemory::Range range(GuestAddress address, uint64_t size) { return {address, size}; }

inline constexpr uint64_t kAllRingFeatures =
    virtio_feature::kVersion1 | virtio_feature::kEventIndex | virtio_feature::kIndirectDescriptors;

/// A field that the device reads or writes at the same time.
template <typename T>
std::atomic_ref<T> shared_field(const GuestMemory& memory, GuestAddress address) {
  return std::atomic_ref<T>(*reinterpret_cast<T*>(memory.slice(address, sizeof(T))->data()));
}

/// As a machine does, without the machine.
inline void pause(VirtioDevice& device) {
  device.begin_pause();
  EXPECT_TRUE(device.wait_paused(Deadline::never()));
}

class CountingInterrupt : public VirtqueueInterrupt {
 public:
  void trigger() noexcept override { ++count; }
  std::atomic<int> count = 0;
};

class RecordingTransport : public VirtioTransport {
 public:
  void config_changed() noexcept override { ++config_changes; }
  void failed(std::string_view reason) noexcept override {
    const std::lock_guard lock(mutex);
    failures.emplace_back(reason);
  }
  void note(std::string_view text) noexcept override {
    const std::lock_guard lock(mutex);
    notes.emplace_back(text);
  }
  void warn(std::string_view text) noexcept override {
    const std::lock_guard lock(mutex);
    warnings.emplace_back(text);
  }
  std::vector<std::string> all_warnings() {
    const std::lock_guard lock(mutex);
    return warnings;
  }
  std::string last_note() {
    const std::lock_guard lock(mutex);
    return notes.empty() ? "" : notes.back();
  }
  size_t notes_count() {
    const std::lock_guard lock(mutex);
    return notes.size();
  }
  bool notes_contain(std::string_view text) {
    const std::lock_guard lock(mutex);
    for (const std::string& note : notes) {
      if (note.find(text) != std::string::npos) return true;
    }
    return false;
  }
  std::string failure() {
    const std::lock_guard lock(mutex);
    return failures.empty() ? "" : failures.front();
  }
  std::atomic<int> config_changes = 0;
  std::mutex mutex;
  std::vector<std::string> failures;
  std::vector<std::string> notes;
  std::vector<std::string> warnings;
};

/// Events of devices, as texts.
class RecordingEvents {
 public:
  EventReport report() {
    return [this](const MachineEvent& event) { add(event); };
  }
  std::vector<std::string> take() {
    const std::lock_guard lock(mutex_);
    return std::exchange(events_, {});
  }

 private:
  static std::string text_of(const MachineEvent& event) {
    using Type = MachineEvent::Type;
    switch (event.type) {
      case Type::kDeviceActivated:
        return "activated " + event.id;
      case Type::kDeviceReset:
        return "reset " + event.id;
      case Type::kDeviceFailed:
        return "failed " + event.id + ": " + event.reason;
      case Type::kDeviceNote:
        return "note " + event.id + ": " + event.reason;
      case Type::kDeviceWarning:
        return "warning " + event.id + ": " + event.reason;
      default:
        return "no event of a virtio device";
    }
  }
  void add(const MachineEvent& event) {
    const std::lock_guard lock(mutex_);
    events_.push_back(text_of(event));
  }
  std::mutex mutex_;
  std::vector<std::string> events_;
};

/// Lines and doorbells that remember. `refuse` makes every request fail.
class FakeFabric : public InterruptFabric {
 public:
  struct Line {
    std::atomic<int> triggers = 0;
    MsiMessage message;
    int programmed = 0;
    std::vector<const EventFd*> sources;
  };

  std::unique_ptr<Interrupt> create_msi() override {
    if (refuse) throw std::runtime_error("no routes");
    lines.push_back(std::make_shared<Line>());
    return std::make_unique<Handle>(lines.back());
  }
  std::unique_ptr<Interrupt> create_wired_interrupt(unsigned /*pin*/) override {
    return create_msi();
  }
  std::unique_ptr<DoorbellRegistration> register_doorbell(GuestAddress address,
                                                          const EventFd& event) override {
    if (refuse || no_doorbells) return nullptr;
    doorbells.push_back({address, &event});
    return std::make_unique<FakeDoorbell>(*this, address);
  }
  /// What an ioeventfd does: true if a doorbell is there.
  bool ring(GuestAddress address) {
    for (const auto& [where, event] : doorbells) {
      if (where == address) {
        event->signal();
        return true;
      }
    }
    return false;
  }
  int triggers() const {
    int sum = 0;
    for (const auto& line : lines) sum += line->triggers;
    return sum;
  }

  std::vector<std::shared_ptr<Line>> lines;
  std::vector<std::pair<GuestAddress, const EventFd*>> doorbells;
  bool refuse = false;
  bool no_doorbells = false;

 private:
  class Handle : public Interrupt {
   public:
    explicit Handle(std::shared_ptr<Line> line) : line_(std::move(line)) {}
    void trigger() noexcept override { ++line_->triggers; }
    bool set_message(const MsiMessage& message) noexcept override {
      line_->message = message;
      ++line_->programmed;
      return true;
    }
    bool connect(const EventFd& source) noexcept override {
      // As KVM does: what it was signalled before counts.
      if (source.consume() != 0) ++line_->triggers;
      line_->sources.push_back(&source);
      return true;
    }
    void disconnect(const EventFd& source) noexcept override {
      std::erase(line_->sources, &source);
    }
    void clear() noexcept override { line_->message = {}; }

   private:
    std::shared_ptr<Line> line_;
  };
  class FakeDoorbell : public DoorbellRegistration {
   public:
    FakeDoorbell(FakeFabric& fabric, GuestAddress address) : fabric_(fabric), address_(address) {}
    ~FakeDoorbell() override {
      std::erase_if(fabric_.doorbells,
                    [this](const auto& entry) { return entry.first == address_; });
    }

   private:
    FakeFabric& fabric_;
    GuestAddress address_;
  };
};

/// A split queue as the driver sees it, laid out from `base` on: descriptors, available ring, used
/// ring.
class DriverQueue {
 public:
  struct Buffer {
    GuestAddress address;
    uint32_t length;
    uint16_t flags = 0;
  };

  DriverQueue(GuestMemory& memory, GuestAddress base, uint16_t size) : memory_(&memory) {
    config_.size = size;
    config_.descriptor_table = base;
    config_.available_ring = base + 16 * uint64_t{size};
    config_.used_ring = (config_.available_ring + 6 + 2 * uint64_t{size} + 3) & ~uint64_t{3};
  }

  const VirtqueueConfig& config() const { return config_; }

  void put(GuestAddress address, auto value) { ASSERT_TRUE(memory_->write(address, value)); }
  template <typename T>
  T get(GuestAddress address) const {
    return memory_->read<T>(address).value();
  }

  void descriptor_at(GuestAddress table, uint16_t index, GuestAddress address, uint32_t length,
                     uint16_t flags, uint16_t next = 0) {
    const GuestAddress at = table + 16 * uint64_t{index};
    put(at, address);
    put(at + 8, length);
    put(at + 12, flags);
    put(at + 14, next);
  }
  void descriptor(uint16_t index, GuestAddress address, uint32_t length, uint16_t flags,
                  uint16_t next = 0) {
    descriptor_at(config_.descriptor_table, index, address, length, flags, next);
  }
  /// Writes a chain from descriptor `head` on and makes it available.
  void add(const std::vector<Buffer>& buffers, uint16_t head = 0) {
    for (size_t i = 0; i < buffers.size(); ++i) {
      const auto index = static_cast<uint16_t>(head + i);
      const bool last = i + 1 == buffers.size();
      descriptor(index, buffers[i].address, buffers[i].length,
                 static_cast<uint16_t>(buffers[i].flags | (last ? 0 : kNext)),
                 static_cast<uint16_t>(index + 1));
    }
    make_available(head);
  }
  void make_available(uint16_t head) {
    put(config_.available_ring + 4 + 2 * uint64_t(next_ % config_.size), head);
    set_available_index(++next_);
  }
  void set_available_index(uint16_t index) {
    next_ = index;
    std::atomic_thread_fence(std::memory_order_seq_cst);
    shared_field<uint16_t>(*memory_, config_.available_ring + 2).store(index);
  }
  void set_used_event(uint16_t index) {
    put(config_.available_ring + 4 + 2 * uint64_t{config_.size}, index);
  }
  void set_no_interrupt(bool no) { put(config_.available_ring, static_cast<uint16_t>(no ? 1 : 0)); }

  uint16_t used_index() const {
    return shared_field<uint16_t>(*memory_, config_.used_ring + 2).load();
  }
  uint32_t used_id(uint16_t index) const {
    return get<uint32_t>(config_.used_ring + 4 + 8 * uint64_t(index % config_.size));
  }
  uint32_t used_length(uint16_t index) const {
    return get<uint32_t>(config_.used_ring + 8 + 8 * uint64_t(index % config_.size));
  }
  uint16_t used_flags() const { return get<uint16_t>(config_.used_ring); }
  uint16_t available_event() const {
    return get<uint16_t>(config_.used_ring + 4 + 8 * uint64_t{config_.size});
  }

 private:
  GuestMemory* memory_;
  VirtqueueConfig config_;
  uint16_t next_ = 0;
};

/// A machine's worth of surroundings for devices behind virtio-pci, apart from guest memory.
class PciHost {
 public:
  static constexpr GuestAddress kWindow = 0xc0000000;
  static constexpr uint64_t kWindowSize = 0x10000000;
  static constexpr GuestAddress kWindow64 = 0x4000000000;
  /// Of a device that has some.
  static constexpr GuestAddress kDeviceMemory = kWindow64 + kWindowSize / 2;
  static constexpr GuestAddress kEcam = 0xe8000000;
  static constexpr uint64_t kEcamSize = PciRoot::kEcamSize;

  /// What a memory device can hand out.
  static constexpr GuestAddress kHotplugMemory = 0x140000000;
  static constexpr uint64_t kHotplugSize = 32 << 20;

  explicit PciHost(GuestMemory& guest_memory)
      : memory(guest_memory), root(mmio, {kWindow, kWindowSize}, {kWindow64, kWindowSize}) {
    EXPECT_TRUE(mmio.map(kEcam, kEcamSize, root.ecam()));
  }

  VirtioPciFunction& add(unsigned slot, const std::string& id, std::shared_ptr<VirtioDevice> device,
                         GuestAddress bar, bool is_64bit = true,
                         const VirtioPciState* state = nullptr) {
    auto function = std::make_shared<VirtioPciFunction>(
        VirtioPciFunction::Options{
            .id = id, .bar0 = bar, .bar0_is_64bit = is_64bit, .bar2 = kDeviceMemory},
        std::move(device), memory, fabric, events.report());
    if (state != nullptr) function->restore(*state);
    root.add(slot, function);
    return *function;
  }

  template <typename T>
  T mmio_read(GuestAddress address) {
    std::array<uint8_t, sizeof(T)> bytes{};
    mmio.read(address, bytes);
    return load<T>(bytes);
  }
  template <typename T>
  void mmio_write(GuestAddress address, T value) {
    std::array<uint8_t, sizeof(T)> bytes{};
    store(std::span<uint8_t>(bytes), value);
    mmio.write(address, bytes);
  }
  template <typename T>
  T config_read(unsigned slot, uint32_t offset) {
    return mmio_read<T>(kEcam + (uint64_t{slot} << 15) + offset);
  }
  template <typename T>
  void config_write(unsigned slot, uint32_t offset, T value) {
    mmio_write<T>(kEcam + (uint64_t{slot} << 15) + offset, value);
  }
  /// Offset of the n-th capability with `id`, 0 if there is none.
  uint32_t capability(unsigned slot, uint8_t id, unsigned n = 0) {
    for (uint32_t at = config_read<uint8_t>(slot, 0x34); at != 0;
         at = config_read<uint8_t>(slot, at + 1)) {
      if (config_read<uint8_t>(slot, at) == id && n-- == 0) return at;
    }
    return 0;
  }

  GuestMemory& memory;
  AddressSpace mmio;
  FakeFabric fabric;
  RecordingEvents events;
  PciRoot root;  // last: its functions use all of the above
};

struct BenchMemory {
  GuestMemory own{{{.id = "mem0",
                    .ranges = {range(0, 16 << 20)},
                    .hotplug = range(PciHost::kHotplugMemory, PciHost::kHotplugSize)}}};
};

/// The same with guest memory of its own.
class PciBench : BenchMemory, public PciHost {
 public:
  PciBench() : PciHost(own) {}
};

/// Drives one function through its BAR; `Bench` has mmio_read and mmio_write.
template <typename Bench>
class BarDriver {
 public:
  BarDriver(Bench& bench, GuestAddress bar) : bench_(bench), bar(bar) {}

  template <typename T>
  T read(uint64_t offset) {
    return bench_.template mmio_read<T>(bar + offset);
  }
  template <typename T>
  void write(uint64_t offset, T value) {
    bench_.template mmio_write<T>(bar + offset, value);
  }

  uint8_t status() { return this->template read<uint8_t>(0x14); }
  void set_status(uint8_t value) { write<uint8_t>(0x14, value); }
  uint64_t device_features() {
    write<uint32_t>(0, 0);
    const uint64_t low = read<uint32_t>(4);
    write<uint32_t>(0, 1);
    return low | uint64_t{read<uint32_t>(4)} << 32;
  }
  void set_features(uint64_t features) {
    write<uint32_t>(8, 0);
    write<uint32_t>(0xc, static_cast<uint32_t>(features));
    write<uint32_t>(8, 1);
    write<uint32_t>(0xc, static_cast<uint32_t>(features >> 32));
  }
  /// Reset up to FEATURES_OK.
  void negotiate(uint64_t features) {
    set_status(0);
    set_status(1);
    set_status(3);
    set_features(features);
    set_status(11);
  }
  void set_up(uint16_t index, const VirtqueueConfig& config, uint16_t vector = kNoVector) {
    write<uint16_t>(0x16, index);
    write<uint16_t>(0x18, config.size);
    write<uint16_t>(0x1a, vector);
    write<uint64_t>(0x20, config.descriptor_table);
    write<uint64_t>(0x28, config.available_ring);
    write<uint64_t>(0x30, config.used_ring);
    write<uint16_t>(0x1c, 1);
  }
  void start() { set_status(15); }
  /// Like a guest's store: by the doorbell if there is one, else as MMIO.
  void kick(uint16_t index) {
    const GuestAddress address = bar + 0x6000 + 4 * uint64_t{index};
    if (!bench_.fabric.ring(address)) bench_.template mmio_write<uint16_t>(address, index);
  }

 private:
  Bench& bench_;

 public:
  GuestAddress bar;
};

using PciDriver = BarDriver<PciBench>;

}  // namespace tsvmm::virtio_test

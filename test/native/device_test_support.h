#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bus/bus_device.h"
#include "device/char_backend.h"
#include "hypervisor/hypervisor.h"

namespace tsvmm {

inline uint8_t read8(BusDevice& device, uint64_t offset) {
  uint8_t value = 0;
  device.read(offset, {&value, 1});
  return value;
}

inline void write8(BusDevice& device, uint64_t offset, uint8_t value) {
  device.write(offset, {&value, 1});
}

inline uint32_t read32(BusDevice& device, uint64_t offset) {
  uint32_t value = 0;
  device.read(offset, {reinterpret_cast<uint8_t*>(&value), sizeof value});
  return value;
}

inline void write32(BusDevice& device, uint64_t offset, uint32_t value) {
  device.write(offset, {reinterpret_cast<const uint8_t*>(&value), sizeof value});
}

inline std::span<const uint8_t> bytes_of(std::string_view text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

/// Every offset below `size` with every width a guest can bring about, in both directions.
inline void access_everything(BusDevice& device, uint64_t size) {
  for (const uint8_t fill : {0x00, 0x55, 0xAA, 0xFF}) {
    for (uint64_t offset = 0; offset < size; ++offset) {
      for (const size_t width : {1, 2, 3, 4, 8}) {
        std::vector<uint8_t> data(width, fill);
        device.write(offset, data);
        device.read(offset, data);
      }
    }
  }
}

/// True as soon as `condition` holds; false after five seconds.
inline bool eventually(const std::function<bool()>& condition) {
  for (int i = 0; i < 5000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return condition();
}

class RecordingLine final : public InterruptLine {
 public:
  void trigger() noexcept override { ++triggers; }
  bool set_message(const MsiMessage& new_message) noexcept override {
    ++routes;
    message = new_message;
    return true;
  }
  void clear() noexcept override {
    ++routes;
    message.reset();
  }

  std::atomic<int> triggers = 0;
  int routes = 0;
  std::optional<MsiMessage> message;
};

/// A host end that takes `room` bytes and then refuses.
class BoundedBackend final : public CharBackend {
 public:
  void attach(CharClient* new_client) override { client = new_client; }
  size_t write(std::span<const uint8_t> bytes) noexcept override {
    const size_t taken = std::min(bytes.size(), room);
    room -= taken;
    output.append(reinterpret_cast<const char*>(bytes.data()), taken);
    return taken;
  }
  void input_wanted() noexcept override { ++input_requests; }

  CharClient* client = nullptr;
  size_t room = SIZE_MAX;
  std::string output;
  int input_requests = 0;
};

/// A device that takes `room` bytes of input and records what it hears.
class RecordingClient final : public CharClient {
 public:
  size_t input_room() override {
    const std::lock_guard lock(mutex_);
    return room_;
  }
  void input(std::span<const uint8_t> bytes) override {
    const std::lock_guard lock(mutex_);
    overruns_ += bytes.size() > room_ ? 1 : 0;
    room_ -= std::min(room_, bytes.size());
    received_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  void output_ready() override { ++ready_; }

  void set_room(size_t room) {
    const std::lock_guard lock(mutex_);
    room_ = room;
  }
  std::string received() {
    const std::lock_guard lock(mutex_);
    return received_;
  }
  int overruns() {
    const std::lock_guard lock(mutex_);
    return overruns_;
  }
  int ready() const { return ready_; }

 private:
  std::mutex mutex_;
  size_t room_ = SIZE_MAX;
  std::string received_;
  int overruns_ = 0;
  std::atomic<int> ready_ = 0;
};

}  // namespace tsvmm

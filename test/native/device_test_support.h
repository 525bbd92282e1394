#pragma once

#include <gtest/gtest.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <ctime>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "bus/bus_device.h"
#include "core/event_loop.h"
#include "device/char_backend.h"
#include "hypervisor/hypervisor.h"

namespace tsvmm {

/// Until resume().
inline void pause(EventLoop& loop) {
  loop.begin_pause();
  EXPECT_TRUE(loop.wait_paused(Deadline::never()));
}

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

/// How long a test waits for what has to happen. Only a test that fails takes this long, so it is
/// more than the busiest machine needs.
inline constexpr std::chrono::milliseconds kTestTimeout{60'000};

/// True as soon as `condition` holds; false if it does not within the tests' timeout.
inline bool eventually(const std::function<bool()>& condition) {
  const auto end = std::chrono::steady_clock::now() + kTestTimeout;
  while (!condition()) {
    if (std::chrono::steady_clock::now() >= end) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return true;
}

/// Whether there is something to read, or the other side has gone, within `timeout`.
inline bool readable(int fd, std::chrono::milliseconds timeout = kTestTimeout) {
  pollfd wait{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&wait, 1, static_cast<int>(timeout.count())) == 1;
}

/// Reads exactly `count` bytes, or fewer if no more come.
inline std::string read_exactly(int fd, size_t count) {
  std::string text;
  while (text.size() < count && readable(fd)) {
    char buffer[4096];
    const ssize_t got = ::read(fd, buffer, std::min(sizeof buffer, count - text.size()));
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
  }
  return text;
}

/// Writes until the host end refuses; what it took.
inline std::string fill(CharBackend& backend) {
  std::string taken;
  for (size_t i = 0;; ++i) {
    const std::string block(1000, static_cast<char>('a' + i % 26));
    const size_t count = backend.write(bytes_of(block));
    taken += block.substr(0, count);
    if (count < block.size()) return taken;
    if (taken.size() > size_t{8} << 20) {
      ADD_FAILURE() << "it takes without end";
      return taken;
    }
  }
}

/// A guest that sends more than the host end takes stands still until the reader `leaves`.
inline void expect_release_of_a_stalled_guest(BusDevice& serial, CharBackend& backend,
                                              const std::function<void()>& leaves) {
  // A pseudo terminal makes room for some more after it has refused.
  constexpr size_t kMoreThanAnyBuffer = 200'000;
  const auto transmitter_empty = [&serial] { return (read8(serial, 5) & 0x20) != 0; };
  (void)fill(backend);
  std::atomic<bool> done = false;
  std::thread guest([&] {
    for (size_t i = 0; i < kMoreThanAnyBuffer; ++i) {
      while (!transmitter_empty()) std::this_thread::yield();
      write8(serial, 0, 'x');
    }
    done = true;
  });
  EXPECT_TRUE(eventually([&] { return !transmitter_empty(); }));
  EXPECT_FALSE(done);
  leaves();
  EXPECT_TRUE(eventually([&] { return done.load(); }));
  guest.join();
}

/// Whether nobody in this process computes any more, after a moment for what is on its way.
inline bool settles_down() {
  const auto cpu_time = [] {
    timespec now{};
    ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return std::chrono::seconds(now.tv_sec) + std::chrono::nanoseconds(now.tv_nsec);
  };
  constexpr std::chrono::milliseconds kLook{100};
  for (int look = 0; look < 5; ++look) {
    const auto before = cpu_time();
    std::this_thread::sleep_for(kLook);
    if (cpu_time() - before < kLook / 5) return true;
  }
  return false;
}

class RecordingLine final : public Interrupt {
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
  void resized(uint16_t columns, uint16_t rows) override { size_ = uint32_t{rows} << 16 | columns; }

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
  uint16_t columns() const { return static_cast<uint16_t>(size_); }
  uint16_t rows() const { return static_cast<uint16_t>(size_ >> 16); }

 private:
  std::mutex mutex_;
  size_t room_ = SIZE_MAX;
  std::string received_;
  int overruns_ = 0;
  std::atomic<int> ready_ = 0;
  std::atomic<uint32_t> size_ = 0;
};

}  // namespace tsvmm

#include <fcntl.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <utility>

#include "virtio/console.h"
#include "virtio/rng.h"
#include "virtio/watchdog.h"
#include "virtio_loop_fixture.h"

namespace tsvmm::virtio_test {
namespace {

constexpr GuestAddress kData = 0x100000;

class SmallDeviceTest : public LoopDeviceTest {
 protected:
  std::string guest(GuestAddress address, size_t size) {
    const auto bytes = memory.slice(address, size).value();
    return {bytes.begin(), bytes.end()};
  }
  void put(GuestAddress address, std::string_view text) {
    ASSERT_TRUE(memory.write(address, bytes_of(text)));
  }
};

class RngTest : public SmallDeviceTest {
 protected:
  UniqueFd urandom{::open("/dev/urandom", O_RDONLY | O_CLOEXEC)};
};

TEST_F(RngTest, FillsBuffers) {
  VirtioRng rng(urandom.get(), loop, "_rng0");
  drivers[0].add({{kData, 64, kWrite}, {kData + 0x1000, 100, kWrite}});
  activate(rng, {0});
  ASSERT_TRUE(used(0, 1)) << "available before activation, no doorbell";
  EXPECT_EQ(drivers[0].used_length(0), 164u);
  EXPECT_NE(guest(kData, 64), std::string(64, '\0'));
  EXPECT_NE(guest(kData + 0x1000, 100), std::string(100, '\0'));
  EXPECT_TRUE(eventually([&] { return interrupts[0].count == 1; }));
  const auto counters = rng.counters();
  EXPECT_EQ(counters[0].value, 1u);
  EXPECT_EQ(counters[1].value, 164u);
}

TEST_F(RngTest, BoundsWhatOneBufferGets) {
  VirtioRng rng(urandom.get(), loop, "_rng0");
  activate(rng, {0});
  drivers[0].add({{kData, 1 << 20, kWrite}});
  doorbells[0].signal();
  ASSERT_TRUE(used(0, 1));
  EXPECT_EQ(drivers[0].used_length(0), 4096u);
}

TEST_F(RngTest, BuffersWithoutRoomComeBackEmpty) {
  VirtioRng rng(urandom.get(), loop, "_rng0");
  activate(rng, {0});
  drivers[0].add({{kData, 16}});
  doorbells[0].signal();
  ASSERT_TRUE(used(0, 1));
  EXPECT_EQ(drivers[0].used_length(0), 0u);
}

TEST_F(RngTest, EndedSourceFailsTheDevice) {
  const UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  VirtioRng rng(null.get(), loop, "_rng0");
  activate(rng, {0});
  drivers[0].add({{kData, 16, kWrite}});
  doorbells[0].signal();
  EXPECT_TRUE(eventually([&] { return host.failure() == "the entropy source has ended"; }));
}

TEST_F(RngTest, BrokenRingFailsAndResetHeals) {
  VirtioRng rng(urandom.get(), loop, "_rng0");
  activate(rng, {0});
  drivers[0].set_available_index(1000);
  doorbells[0].signal();
  EXPECT_TRUE(eventually([&] { return !host.failure().empty(); }));
  rng.reset();
  drivers[0] = DriverQueue(memory, 0x8000, kQueueSize);
  drivers[0].add({{kData, 16, kWrite}});
  activate(rng, {0});
  EXPECT_TRUE(used(0, 1));
}

TEST_F(RngTest, ADriverThatNeverStopsLeavesTheLoopToOthers) {
  VirtioRng rng(urandom.get(), loop, "_rng0");
  activate(rng, {0});
  expect_turns_beside_a_flood(0, {kData, 4096, kWrite});
}

/// A source that has nothing for now, as a FIFO, or never answers at all.
TEST_F(RngTest, ASlowSourceKeepsNobodyElseWaiting) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd source(ends[0]);
  const UniqueFd feeder(ends[1]);
  VirtioRng rng(source.get(), loop, "_rng0");
  rng.connect(host);
  activate(rng, {0});
  drivers[0].add({{kData, 16, kWrite}});
  doorbells[0].signal();
  loop.call([] {});  // the shared one is free
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  pause(rng);
  rng.resume();
  EXPECT_EQ(drivers[0].used_index(), 0);
  ASSERT_EQ(::write(feeder.get(), "0123456789", 10), 10);
  ASSERT_TRUE(used(0, 1));
  EXPECT_EQ(drivers[0].used_length(0), 10u);
  EXPECT_EQ(memory.read<uint8_t>(kData + 9), '9');
  drivers[0].add({{kData, 16, kWrite}});
  doorbells[0].signal();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  EXPECT_TRUE(rng.try_reset(Deadline::never()));
  EXPECT_EQ(host.failure(), "");
}

/// How often the process's thread of this name went to sleep; 0 while there is none.
uint64_t sleeps_of(const std::string& thread) {
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::string name;
    std::ifstream(task.path() / "comm") >> name;
    if (name != thread) continue;
    std::ifstream status(task.path() / "status");
    for (std::string word; status >> word;) {
      uint64_t count = 0;
      if (word == "voluntary_ctxt_switches:" && status >> count) return count;
    }
  }
  return 0;
}

/// Linux always has a request under way, so that a source without bytes is how a VM may idle.
TEST_F(RngTest, ASourceThatHasNothingWakesNobody) {
  std::array<int, 2> ends{};
  ASSERT_EQ(::pipe2(ends.data(), O_CLOEXEC), 0);
  const UniqueFd source(ends[0]);
  const UniqueFd feeder(ends[1]);
  VirtioRng rng(source.get(), loop, "_rng7");
  rng.connect(host);
  activate(rng, {0});
  drivers[0].add({{kData, 16, kWrite}});
  doorbells[0].signal();
  // Until it has looked, and sleeps.
  uint64_t before = 0;
  ASSERT_TRUE(eventually([&] {
    const uint64_t last = std::exchange(before, sleeps_of("_rng7"));
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
    return last == before && last != 0;
  }));
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  EXPECT_EQ(sleeps_of("_rng7"), before);
  ASSERT_EQ(::write(feeder.get(), "0123456789", 10), 10);
  ASSERT_TRUE(used(0, 1));
}

TEST_F(RngTest, ActivatesWithoutItsQueue) {
  VirtioRng rng(urandom.get(), loop, "_rng0");
  activate(rng, {});
  rng.reset();
}

class ConsoleTest : public SmallDeviceTest {
 protected:
  static constexpr uint16_t kRx = 0;
  static constexpr uint16_t kTx = 1;

  ConsoleTest() {
    auto owned = std::make_unique<BoundedBackend>();
    backend = owned.get();
    console = std::make_unique<VirtioConsole>(std::move(owned), loop, 80, 25);
  }
  std::string output() {
    std::string result;
    loop.call([&] { result = backend->output; });
    return result;
  }
  size_t room() {
    size_t result = 0;
    loop.call([&] { result = backend->client->input_room(); });
    return result;
  }
  void type(std::string_view text) {
    loop.call([&] { backend->client->input(bytes_of(text)); });
  }
  int input_requests() {
    int result = 0;
    loop.call([&] { result = backend->input_requests; });
    return result;
  }
  void set_room(size_t bytes) {
    loop.call([&] { backend->room = bytes; });
  }

  BoundedBackend* backend = nullptr;
  std::unique_ptr<VirtioConsole> console;
};

TEST_F(ConsoleTest, Sends) {
  activate(*console, {0, 1});
  put(kData, "hello, ");
  put(kData + 0x100, "world");
  drivers[kTx].add({{kData, 7}, {kData + 0x100, 5}});
  doorbells[kTx].signal();
  ASSERT_TRUE(used(kTx, 1));
  EXPECT_EQ(output(), "hello, world");
  EXPECT_EQ(drivers[kTx].used_length(0), 0u);
}

TEST_F(ConsoleTest, SaysItsSizeWhenTheGuestWritesAndNotForEver) {
  activate(*console, {0, 1}, 1);
  const auto writes = [&](int times) {
    for (int i = 0; i < times; ++i) {
      const uint16_t before = drivers[kTx].used_index();
      drivers[kTx].add({{kData, 1}});
      doorbells[kTx].signal();
      ASSERT_TRUE(used(kTx, static_cast<uint16_t>(before + 1)));
    }
  };
  settle();  // what is there at the start is sent in silence
  EXPECT_EQ(host.config_changes, 0);
  writes(1);
  EXPECT_EQ(host.config_changes, 1);
  ASSERT_TRUE(eventually([&] {
    writes(1);
    return host.config_changes == 16;
  }));
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  writes(10);
  EXPECT_EQ(host.config_changes, 16);
}

TEST_F(ConsoleTest, SaysNothingOfASizeThatNobodyKnowsOrWants) {
  VirtioConsole unknown(std::make_unique<BoundedBackend>(), loop, 0, 0);
  for (auto [device, features] : {std::pair{console.get(), 0}, std::pair{&unknown, 1}}) {
    activate(*device, {0, 1}, features);
    const uint16_t before = drivers[kTx].used_index();
    drivers[kTx].add({{kData, 1}});
    doorbells[kTx].signal();
    ASSERT_TRUE(used(kTx, static_cast<uint16_t>(before + 1)));
    EXPECT_EQ(host.config_changes, 0);
    device->reset();
    drivers[kTx] = DriverQueue(memory, 0x8000, kQueueSize);
  }
}

TEST_F(ConsoleTest, WaitsForASlowBackend) {
  set_room(5);
  activate(*console, {0, 1});
  put(kData, "hello, world");
  drivers[kTx].add({{kData, 7}, {kData + 7, 5}}, 0);
  drivers[kTx].add({{kData, 5}}, 2);
  doorbells[kTx].signal();
  ASSERT_TRUE(eventually([&] { return output() == "hello"; }));
  doorbells[kTx].signal();
  settle();
  EXPECT_EQ(drivers[kTx].used_index(), 0) << "nothing is lost or returned early";
  set_room(4);
  loop.call([&] { backend->client->output_ready(); });
  EXPECT_EQ(output(), "hello, wo");
  set_room(SIZE_MAX);
  loop.call([&] { backend->client->output_ready(); });
  ASSERT_TRUE(used(kTx, 2));
  EXPECT_EQ(output(), "hello, worldhello");
}

TEST_F(ConsoleTest, SendsLargeBuffersInTurns) {
  constexpr size_t kLength = 1 << 20;
  const std::string text(kLength, 'x');
  put(kData, text);
  activate(*console, {0, 1});
  drivers[kTx].add({{kData, kLength}});
  doorbells[kTx].signal();
  ASSERT_TRUE(used(kTx, 1));
  EXPECT_EQ(output(), text);
}

TEST_F(ConsoleTest, Receives) {
  EXPECT_EQ(room(), 0u) << "no driver";
  activate(*console, {0, 1});
  settle();
  EXPECT_GE(input_requests(), 1);
  EXPECT_EQ(room(), 0u) << "no buffers";
  const int before = input_requests();
  drivers[kRx].add({{kData, 4, kWrite}, {kData + 0x100, 6, kWrite}});
  doorbells[kRx].signal();
  ASSERT_TRUE(eventually([&] { return input_requests() > before; }));
  EXPECT_EQ(room(), 10u);
  type("abcdefg");
  EXPECT_TRUE(used(kRx, 1));
  EXPECT_EQ(drivers[kRx].used_length(0), 7u);
  EXPECT_EQ(guest(kData, 4), "abcd");
  EXPECT_EQ(guest(kData + 0x100, 3), "efg");
  EXPECT_EQ(interrupts[kRx].count, 1);
  EXPECT_EQ(room(), 0u);
}

TEST_F(ConsoleTest, SkipsBuffersWithoutRoom) {
  activate(*console, {0, 1});
  drivers[kRx].add({{kData, 4}}, 0);
  drivers[kRx].add({{kData, 8, kWrite}}, 1);
  settle();
  EXPECT_EQ(room(), 8u);
  type("x");
  EXPECT_TRUE(used(kRx, 2));
}

TEST_F(ConsoleTest, InputWithoutRoomIsDropped) {
  activate(*console, {0, 1});
  settle();
  type("nobody asked");
  EXPECT_EQ(drivers[kRx].used_index(), 0);
}

TEST_F(ConsoleTest, BrokenRingsFailTheDevice) {
  for (const uint16_t queue : {kRx, kTx}) {
    activate(*console, {0, 1});
    drivers[queue].set_available_index(500);
    doorbells[queue].signal();
    // The receive queue is only looked at when there is input.
    EXPECT_TRUE(eventually([&] { return room() == 0 && !host.failure().empty(); }));
    EXPECT_EQ(room(), 0u);
    console->reset();
    host.failures.clear();
    drivers[kRx] = DriverQueue(memory, 0x10000 + 0x4000 * queue, kQueueSize);
    drivers[kTx] = DriverQueue(memory, 0x12000 + 0x4000 * queue, kQueueSize);
  }
  activate(*console, {0, 1});
  put(kData, "alive");
  drivers[kTx].add({{kData, 5}});
  doorbells[kTx].signal();
  EXPECT_TRUE(used(kTx, 1));
}

TEST_F(ConsoleTest, ResetForgetsWhatItHeld) {
  set_room(2);
  activate(*console, {0, 1});
  put(kData, "abcdef");
  drivers[kTx].add({{kData, 6}});
  drivers[kRx].add({{kData, 6, kWrite}});
  doorbells[kTx].signal();
  EXPECT_TRUE(eventually([&] { return output() == "ab"; }));
  EXPECT_EQ(room(), 6u);
  console->reset();
  EXPECT_EQ(room(), 0u);
  set_room(SIZE_MAX);
  loop.call([&] { backend->client->output_ready(); });
  EXPECT_EQ(output(), "ab");
}

TEST_F(ConsoleTest, ResizeTellsTheDriver) {
  console->connect(host);
  std::array<uint8_t, 4> bytes{};
  console->read_config(0, bytes);
  EXPECT_EQ(load<uint32_t>(bytes), 25U << 16 | 80U);
  console->resize(132, 43);
  console->resize(132, 43);
  EXPECT_EQ(host.config_changes, 1);
  console->read_config(0, bytes);
  EXPECT_EQ(load<uint32_t>(bytes), 43U << 16 | 132U);
}

TEST_F(ConsoleTest, OneQueueIsEnoughToLive) {
  console->connect(host);
  console->activate(
      {memory,
       kAllRingFeatures,
       {{kTx, drivers[kTx].config(), &doorbells[kTx], &interrupts[kTx], &states[kTx]}}});
  EXPECT_EQ(room(), 0u);
  type("x");
  console->reset();
  console->activate(
      {memory,
       kAllRingFeatures,
       {{kRx, drivers[kRx].config(), &doorbells[kRx], &interrupts[kRx], &states[kRx]}}});
  settle();
  loop.call([&] { backend->client->output_ready(); });
}

/// Time for a watchdog that passes when the test says so.
std::atomic<uint64_t> watchdog_now_ns = 1;

class WatchdogTest : public SmallDeviceTest {
 protected:
  static constexpr std::chrono::milliseconds kTimeout{20'000};
  /// In which it looks several times.
  static constexpr std::chrono::milliseconds kSomeChecks{20};
  static constexpr VirtioWatchdog::Timing kTiming{
      .check_period = std::chrono::milliseconds(2),
      .timeout = kTimeout,
      .now_ns = []() noexcept -> uint64_t { return watchdog_now_ns; }};

  static void pass(std::chrono::nanoseconds time) { watchdog_now_ns += time.count(); }
  int expirations_after_some_checks() {
    std::this_thread::sleep_for(kSomeChecks);
    settle();
    return expirations;
  }
  void feed(uint16_t& count) {
    drivers[0].add({{kData, 1, kWrite}});
    doorbells[0].signal();
    ASSERT_TRUE(used(0, ++count));
    settle();
  }

  std::atomic<int> expirations = 0;
  VirtioWatchdog watchdog{loop, [this] { ++expirations; }, kTiming};
};

TEST_F(WatchdogTest, ReturnsTheBufferWithAOne) {
  activate(watchdog, {0});
  uint16_t count = 0;
  feed(count);
  EXPECT_EQ(drivers[0].used_length(0), 1u);
  EXPECT_EQ(guest(kData, 1), "\1");
}

TEST_F(WatchdogTest, SleepsUntilFirstFed) {
  activate(watchdog, {0});
  pass(2 * kTimeout);
  EXPECT_EQ(expirations_after_some_checks(), 0);
}

TEST_F(WatchdogTest, ExpiresOnceWhenNotFed) {
  activate(watchdog, {0});
  uint16_t count = 0;
  feed(count);
  for (int i = 0; i < 4; ++i) {
    pass(kTimeout - std::chrono::nanoseconds(1));
    EXPECT_EQ(expirations_after_some_checks(), 0);
    feed(count);
  }
  pass(kTimeout);
  EXPECT_TRUE(eventually([&] { return expirations == 1; }));
  pass(kTimeout);
  EXPECT_EQ(expirations_after_some_checks(), 1);
}

TEST_F(WatchdogTest, ResetDisarms) {
  activate(watchdog, {0});
  uint16_t count = 0;
  feed(count);
  watchdog.reset();
  pass(2 * kTimeout);
  EXPECT_EQ(expirations_after_some_checks(), 0);
}

TEST_F(WatchdogTest, PausedTimeDoesNotCount) {
  activate(watchdog, {0});
  uint16_t count = 0;
  feed(count);
  pause(watchdog);
  pause(loop);
  pass(2 * kTimeout);
  std::this_thread::sleep_for(kSomeChecks);
  watchdog.resume();
  loop.resume();
  EXPECT_EQ(expirations_after_some_checks(), 0);
  pass(kTimeout);
  EXPECT_TRUE(eventually([&] { return expirations == 1; }));
}

TEST_F(WatchdogTest, BuffersWithoutRoomDoNotFeed) {
  activate(watchdog, {0});
  drivers[0].add({{kData, 1}});
  doorbells[0].signal();
  ASSERT_TRUE(used(0, 1));
  EXPECT_EQ(drivers[0].used_length(0), 0u);
  pass(2 * kTimeout);
  EXPECT_EQ(expirations_after_some_checks(), 0);
}

TEST(WatchdogTiming, IsWhatGuestsExpect) {
  const VirtioWatchdog::Timing timing;
  EXPECT_EQ(timing.check_period, std::chrono::seconds(15));
  EXPECT_EQ(timing.timeout, std::chrono::seconds(20));
}

}  // namespace
}  // namespace tsvmm::virtio_test

#include <fcntl.h>

#include <map>

#include "core/cbor_writer.h"
#include "core/error.h"
#include "core/message.h"
#include "host_calls.h"
#include "memory_arena.h"
#include "refused_mappings.h"
#include "virtio/mem.h"
#include "virtio_loop_fixture.h"

namespace tsvmm::virtio_test {
namespace {

using memory_test::Arena;

constexpr uint64_t kBlock = Arena::kBlock;
constexpr size_t kBlocks = 16;
constexpr GuestAddress kRequest = 0x100000;
constexpr GuestAddress kAnswer = 0x101000;
constexpr GuestAddress kNextRings = 0x8000;

constexpr uint16_t kPlug = 0;
constexpr uint16_t kUnplug = 1;
constexpr uint16_t kUnplugAll = 2;
constexpr uint16_t kState = 3;
constexpr uint16_t kAck = 0;
constexpr uint16_t kNack = 1;
constexpr uint16_t kBusy = 2;
constexpr uint16_t kError = 3;
constexpr uint16_t kPlugged = 0;
constexpr uint16_t kUnplugged = 1;
constexpr uint16_t kMixed = 2;

constexpr uint64_t at(uint64_t block) { return Arena::kAddress + block * kBlock; }

class MemTest : public LoopDeviceTest {
 protected:
  VirtioMem device{arena.blocks(), {.id = "mem0", .node = 3}, {.requested_size = 8 * kBlock}};

  void SetUp() override { activate(device, {0}); }
  void TearDown() override { device.reset(); }

  void put_request(uint16_t type, uint64_t address, uint16_t count) {
    for (const GuestAddress word : {kRequest, kRequest + 8, kRequest + 16}) {
      ASSERT_TRUE(memory.write<uint64_t>(word, 0xeeeeeeeeeeeeeeee));
    }
    ASSERT_TRUE(memory.write(kRequest, type));
    ASSERT_TRUE(memory.write(kRequest + 8, address));
    ASSERT_TRUE(memory.write(kRequest + 16, count));
  }
  /// What the device answers to it.
  uint16_t ask(uint16_t type, uint64_t address = 0, uint16_t count = 0) {
    put_request(type, address, count);
    EXPECT_EQ(send(0, {{kRequest, 24}, {kAnswer, 10, kWrite}}), 10U);
    return memory.read<uint16_t>(kAnswer).value();
  }
  uint16_t state_of(uint64_t address, uint16_t count) {
    EXPECT_EQ(ask(kState, address, count), kAck);
    return memory.read<uint16_t>(kAnswer + 8).value();
  }
  /// The driver begins anew, with rings of zeros.
  void restart() { begin_with(device); }
  /// The same, of another device from now on.
  void begin_with(VirtioMem& other) {
    device.reset();
    std::ranges::fill(memory.slice(kNextRings, 4096).value(), uint8_t{0});
    drivers[0] = DriverQueue(memory, kNextRings, kQueueSize);
    activate(other, {0});
  }
  template <typename T>
  T config(uint32_t offset) {
    std::array<uint8_t, sizeof(T)> bytes{};
    device.read_config(offset, bytes);
    return load<T>(bytes);
  }
  uint64_t plugged() { return config<uint64_t>(40) / kBlock; }
  uint64_t counter(const std::string& name) {
    for (const Counter& counter : device.counters()) {
      if (counter.name == name) return counter.value;
    }
    ADD_FAILURE() << name;
    return 0;
  }

  Arena& the_arena() { return arena; }

 private:
  static inline Arena arena{kBlocks};
};

TEST_F(MemTest, TellsWhereItsRegionIs) {
  EXPECT_EQ(device.config_size(), 56U);
  EXPECT_EQ(config<uint64_t>(0), kBlock);
  EXPECT_EQ(config<uint16_t>(8), 3);
  EXPECT_EQ(config<uint64_t>(16), Arena::kAddress);
  EXPECT_EQ(config<uint64_t>(24), kBlocks * kBlock);
  EXPECT_EQ(config<uint64_t>(32), kBlocks * kBlock);
  EXPECT_EQ(config<uint64_t>(40), 0U);
  EXPECT_EQ(config<uint64_t>(48), 8 * kBlock);
  EXPECT_EQ(device.features() & 3, 3U);
  const Arena other(1);
  const VirtioMem without(other.blocks(), {.id = "mem1", .node = {}}, {});
  EXPECT_EQ(without.features() & 3, 2U) << "no node";
}

TEST_F(MemTest, BlocksArePluggedInAndOut) {
  EXPECT_EQ(ask(kPlug, at(2), 3), kAck);
  EXPECT_EQ(plugged(), 3U);
  EXPECT_EQ(device.plugged_size(), 3 * kBlock);
  the_arena().fill(3, 0x77);
  EXPECT_EQ(ask(kUnplug, at(2), 1), kAck);
  EXPECT_EQ(ask(kUnplug, at(4), 1), kAck);
  EXPECT_EQ(plugged(), 1U);
  EXPECT_TRUE(the_arena().is(3, 0x77));
  EXPECT_TRUE(the_arena().same_memory(2, 4));
  EXPECT_EQ(ask(kUnplugAll), kAck);
  EXPECT_EQ(plugged(), 0U);
  EXPECT_EQ(ask(kUnplugAll), kAck);
  EXPECT_EQ(counter("plugged_in_bytes"), 3 * kBlock);
  EXPECT_EQ(counter("plugged_out_bytes"), 3 * kBlock);
}

TEST_F(MemTest, TellsStates) {
  ASSERT_EQ(ask(kPlug, at(2), 3), kAck);
  EXPECT_EQ(state_of(at(2), 3), kPlugged);
  EXPECT_EQ(state_of(at(3), 1), kPlugged);
  EXPECT_EQ(state_of(at(0), 2), kUnplugged);
  EXPECT_EQ(state_of(at(5), kBlocks - 5), kUnplugged);
  EXPECT_EQ(state_of(at(1), 2), kMixed);
  EXPECT_EQ(state_of(at(0), kBlocks), kMixed);
}

TEST_F(MemTest, RefusesWhatIsNotWhollyInTheOtherState) {
  ASSERT_EQ(ask(kPlug, at(2), 2), kAck);
  EXPECT_EQ(ask(kPlug, at(2), 2), kError) << "twice";
  EXPECT_EQ(ask(kPlug, at(1), 2), kError) << "overlapping";
  EXPECT_EQ(ask(kPlug, at(3), 2), kError);
  EXPECT_EQ(ask(kUnplug, at(3), 2), kError);
  EXPECT_EQ(ask(kUnplug, at(8), 1), kError);
  EXPECT_EQ(state_of(at(2), 2), kPlugged);
  EXPECT_EQ(plugged(), 2U);
  EXPECT_EQ(counter("refused_requests"), 5U);
}

TEST_F(MemTest, RefusesRangesThatAreNone) {
  for (const uint16_t type : {kPlug, kUnplug, kState}) {
    EXPECT_EQ(ask(type, at(1), 0), kError) << "nothing";
    EXPECT_EQ(ask(type, at(1) + 4096, 1), kError) << "unaligned";
    EXPECT_EQ(ask(type, at(1) + 1, 1), kError);
    EXPECT_EQ(ask(type, at(kBlocks), 1), kError) << "behind the region";
    EXPECT_EQ(ask(type, at(kBlocks - 1), 2), kError) << "beyond its end";
    EXPECT_EQ(ask(type, at(0), UINT16_MAX), kError);
    EXPECT_EQ(ask(type, Arena::kAddress - kBlock, 1), kError) << "before it";
    EXPECT_EQ(ask(type, 0, 1), kError);
    EXPECT_EQ(ask(type, UINT64_MAX - kBlock + 1, 1), kError);
    EXPECT_EQ(ask(type, UINT64_MAX - kBlock + 1, UINT16_MAX), kError);
  }
  EXPECT_EQ(plugged(), 0U);
}

TEST_F(MemTest, NoMoreIsPluggedInThanIsRequested) {
  EXPECT_EQ(ask(kPlug, at(0), 9), kNack);
  EXPECT_EQ(ask(kPlug, at(0), 8), kAck);
  EXPECT_EQ(ask(kPlug, at(8), 1), kNack);
  device.resize(4 * kBlock);
  EXPECT_EQ(ask(kPlug, at(8), 1), kNack) << "the guest has more than that";
  EXPECT_EQ(ask(kUnplug, at(0), 5), kAck);
  EXPECT_EQ(ask(kPlug, at(8), 2), kNack);
  EXPECT_EQ(ask(kPlug, at(8), 1), kAck);
}

TEST_F(MemTest, ResizingTellsTheDriver) {
  EXPECT_EQ(host.config_changes, 0);
  device.resize(12 * kBlock);
  EXPECT_EQ(host.config_changes, 1);
  EXPECT_EQ(config<uint64_t>(48), 12 * kBlock);
  device.resize(12 * kBlock);
  EXPECT_EQ(host.config_changes, 1);
  EXPECT_THROW(device.resize(kBlock + 4096), Error);
  EXPECT_THROW(device.resize((kBlocks + 1) * kBlock), Error);
  EXPECT_EQ(config<uint64_t>(48), 12 * kBlock);
  EXPECT_EQ(ask(kPlug, at(0), 12), kAck);
  EXPECT_EQ(host.config_changes, 1) << "of what is plugged, no driver is told";
}

TEST_F(MemTest, UnknownRequestsAreErrors) {
  EXPECT_EQ(ask(4, at(0), 1), kError);
  EXPECT_EQ(ask(UINT16_MAX, at(0), 1), kError);
}

TEST_F(MemTest, RequestsInPiecesAreWhole) {
  put_request(kPlug, at(1), 2);
  EXPECT_EQ(send(0, {{kRequest, 1},
                     {kRequest + 1, 16},
                     {kRequest + 17, 7},
                     {kAnswer, 3, kWrite},
                     {kAnswer + 3, 100, kWrite}}),
            10U);
  EXPECT_EQ(memory.read<uint16_t>(kAnswer), kAck);
  EXPECT_EQ(plugged(), 2U);
}

TEST_F(MemTest, MalformedChainsChangeNothing) {
  put_request(kPlug, at(1), 2);
  EXPECT_EQ(send(0, {{kRequest, 23}, {kAnswer, 10, kWrite}}), 10U);
  EXPECT_EQ(memory.read<uint16_t>(kAnswer), kError);
  EXPECT_EQ(send(0, {{kAnswer, 10, kWrite}}), 10U);
  EXPECT_EQ(memory.read<uint16_t>(kAnswer), kError);
  EXPECT_EQ(send(0, {{kRequest, 24}, {kAnswer, 9, kWrite}}), 0U);
  EXPECT_EQ(send(0, {{kRequest, 24}}), 0U);
  EXPECT_EQ(plugged(), 0U);
  EXPECT_EQ(host.failure(), "");
  EXPECT_EQ(ask(kPlug, at(1), 2), kAck);
}

TEST_F(MemTest, ABrokenRingFailsTheDevice) {
  drivers[0].set_available_index(kQueueSize + 1);
  doorbells[0].signal();
  EXPECT_TRUE(eventually([&] { return !host.failure().empty(); }));
}

TEST_F(MemTest, AResetOfTheDeviceChangesNoBlock) {
  ASSERT_EQ(ask(kPlug, at(2), 2), kAck);
  the_arena().fill(2, 0x42);
  device.reset();
  EXPECT_EQ(plugged(), 2U);
  EXPECT_TRUE(the_arena().is(2, 0x42));
  restart();
  EXPECT_EQ(state_of(at(2), 2), kPlugged);
  EXPECT_EQ(ask(kUnplug, at(2), 2), kAck);
}

TEST_F(MemTest, AnswersAgainAfterAPause) {
  pause(device);
  put_request(kPlug, at(0), 1);
  drivers[0].add({{kRequest, 24}, {kAnswer, 10, kWrite}});
  doorbells[0].signal();
  EXPECT_EQ(device.plugged_size(), 0U);
  device.resume();
  EXPECT_TRUE(used(0, 1));
  EXPECT_EQ(plugged(), 1U);
}

TEST_F(MemTest, ADeviceIsBusyWhileSomebodyWaitsForIt) {
  // Allocating 32 GiB takes far longer than it takes to ask for a pause.
  const Arena large(16 << 10, {.shared = true, .prefault = true, .thp = false});
  VirtioMem slow(large.blocks(), {.id = "mem1", .node = {}}, {.requested_size = large.size()});
  device.reset();
  activate(slow, {0});
  put_request(kPlug, at(0), 16 << 10);
  drivers[0].add({{kRequest, 24}, {kAnswer, 10, kWrite}});
  doorbells[0].signal();
  ASSERT_TRUE(eventually([&] { return large.allocated() != 0; }));
  pause(slow);
  EXPECT_EQ(slow.plugged_size(), 0U);
  slow.resume();
  EXPECT_TRUE(used(0, 1));
  EXPECT_EQ(memory.read<uint16_t>(kAnswer), kBusy);
  EXPECT_TRUE(eventually([&] { return large.allocated() == 0; }));
  slow.reset();
}

/// Pauses come between the pieces of what takes long.
class StopsAndGoes : public MemTest {
 protected:
  static constexpr uint64_t kPiece = 64 << 20;
  static constexpr size_t kPieces = 32;
  static constexpr auto kAll = static_cast<uint16_t>(kPieces * kPiece / kBlock);

  /// Allocates nothing, and begins a pause in the middle of a piece, once, when told so.
  class Host final : public disk_test::HostCalls {
   public:
    explicit Host(VirtioMem& device) : device_(device) {}
    ~Host() override { retire(); }
    int allocate(int fd, int mode, off_t offset, off_t length) override {
      const bool gives_back = (mode & FALLOC_FL_PUNCH_HOLE) != 0;
      if (gives_back && ++given_back == 1 && when_first_is_given_back) when_first_is_given_back();
      if (!gives_back && pauses_plug.exchange(false)) device_.begin_pause();
      if (gives_back && pauses_release.exchange(false)) device_.begin_pause();
      if (gives_back) return HostCalls::allocate(fd, mode, offset, length);
      if (is_full) errno = ENOSPC;
      return is_full ? -1 : 0;
    }
    std::atomic<bool> is_full = false;
    std::atomic<bool> pauses_plug = false;
    std::atomic<bool> pauses_release = false;
    std::atomic<size_t> given_back = 0;  ///< pieces
    std::function<void()> when_first_is_given_back;

   private:
    VirtioMem& device_;
  };

  void SetUp() override { begin_with(large); }
  void TearDown() override { large.reset(); }
  void add(uint16_t type) {
    put_request(type, at(0), kAll);
    answered = drivers[0].used_index();
    drivers[0].add({{kRequest, 24}, {kAnswer, 10, kWrite}});
    doorbells[0].signal();
  }
  /// The loop goes on until a pause that begins in the middle of the next such call.
  [[nodiscard]] bool runs_into_pause(std::atomic<bool>& where) {
    where = true;
    large.resume();
    return eventually([&] { return !where; }) &&
           large.wait_paused(Deadline::after(std::chrono::seconds(10)));
  }

  Arena arena{kPieces * kPiece / kBlock, {.shared = true, .prefault = true, .thp = false}};
  VirtioMem large{arena.blocks(), {.id = "mem1", .node = {}}, {.requested_size = arena.size()}};
  Host host_calls{large};
  uint16_t answered = 0;
};

TEST_F(StopsAndGoes, PausesDoNotAddToWhatIsDoneBetweenThem) {
  pause(large);
  add(kPlug);
  ASSERT_TRUE(runs_into_pause(host_calls.pauses_plug));
  for (int round = 0; round < 3; ++round) {
    ASSERT_TRUE(used(0, answered + 1));
    EXPECT_EQ(memory.read<uint16_t>(kAnswer), kBusy);
    // The driver asks again while the device still gives back what it did not get.
    add(kPlug);
    ASSERT_TRUE(runs_into_pause(host_calls.pauses_release));
    ASSERT_TRUE(runs_into_pause(host_calls.pauses_release));
  }
  const size_t before = host_calls.given_back;
  ASSERT_TRUE(runs_into_pause(host_calls.pauses_release));
  EXPECT_EQ(host_calls.given_back, before + 1);
  large.resume();
  EXPECT_TRUE(eventually([&] { return host_calls.given_back >= kPieces; }));
}

/// The first block is gone, and a pause has come.
class StoppedUnplug : public StopsAndGoes {
 protected:
  void SetUp() override {
    StopsAndGoes::SetUp();
    ASSERT_EQ(ask(kPlug, at(0), kAll), kAck);
    for (size_t block = 0; block < kAll; ++block) *arena.host(block) = 1;
    stop(kUnplug);
  }
  void stop(uint16_t type) {
    pause(large);
    add(type);
    ASSERT_TRUE(runs_into_pause(host_calls.pauses_release));
  }
  [[nodiscard]] bool is_whole_from(size_t first) const {
    for (size_t block = first; block < kAll; ++block) {
      if (*arena.host(block) != 1) return false;
    }
    return true;
  }
  [[nodiscard]] size_t blocks_left() const { return large.plugged_size() / kBlock; }
};

TEST_F(StoppedUnplug, GoesOn) {
  for (size_t gone = 1; gone < 4; ++gone) {
    EXPECT_EQ(blocks_left(), kAll - gone);
    EXPECT_EQ(host_calls.given_back, gone);
    EXPECT_TRUE(is_whole_from(gone));
    EXPECT_EQ(drivers[0].used_index(), answered) << "the driver still waits";
    ASSERT_TRUE(runs_into_pause(host_calls.pauses_release));
  }
  large.resume();
  ASSERT_TRUE(used(0, answered + 1));
  EXPECT_EQ(memory.read<uint16_t>(kAnswer), kAck);
  EXPECT_EQ(blocks_left(), 0U);
  EXPECT_EQ(arena.allocated(), 0U);
}

TEST_F(StoppedUnplug, OfAllGoesOn) {
  large.resume();
  ASSERT_TRUE(used(0, answered + 1));
  ASSERT_EQ(ask(kPlug, at(3), 2), kAck);
  ASSERT_EQ(ask(kPlug, at(8), 2), kAck);
  stop(kUnplugAll);
  EXPECT_EQ(blocks_left(), 3U);
  EXPECT_EQ(drivers[0].used_index(), answered);
  large.resume();
  ASSERT_TRUE(used(0, answered + 1));
  EXPECT_EQ(memory.read<uint16_t>(kAnswer), kAck);
  EXPECT_EQ(blocks_left(), 0U);
}

TEST_F(StoppedUnplug, IsForgottenByAReset) {
  large.reset();
  // It may have gone on for as long as it took to stop it.
  const size_t gone = kAll - blocks_left();
  EXPECT_GE(gone, 1U);
  EXPECT_TRUE(is_whole_from(gone));
  begin_with(large);
  EXPECT_EQ(ask(kUnplug, at(0), kAll), kError) << "as any that has gone in part";
  EXPECT_EQ(blocks_left(), kAll - gone);
  if (gone < kAll) EXPECT_EQ(ask(kUnplug, at(gone), static_cast<uint16_t>(kAll - gone)), kAck);
}

/// In the memory that the driver has lent for the request until it is answered.
TEST_F(StoppedUnplug, IsGivenUpIfTheDriverWritesAnother) {
  put_request(kUnplug, at(5), 1);
  large.resume();
  ASSERT_TRUE(used(0, answered + 1));
  EXPECT_EQ(memory.read<uint16_t>(kAnswer), kAck);
  EXPECT_EQ(blocks_left(), kAll - 2U);
  EXPECT_EQ(ask(kUnplug, at(0), kAll), kError);
}

TEST_F(StoppedUnplug, IsGoneOnWithByADeviceThatTakesTheStateOver) {
  CborWriter writer;
  large.save(writer);
  const std::vector<uint8_t> bytes = writer.take();
  const Arena next(kAll);
  VirtioMem second(next.blocks(), {.id = "mem2", .node = {}}, {});
  MessageReader reader(bytes, {});
  reader.value().map([&](Fields& fields) { second.restore(fields); });
  EXPECT_EQ(second.plugged_size(), (kAll - 1) * kBlock);
  large.reset();
  begin_with(second);
  EXPECT_EQ(ask(kUnplug, at(0), kAll), kAck);
  EXPECT_EQ(second.plugged_size(), 0U);
  second.reset();
}

/// The host refuses the rest once the first block is gone.
TEST_F(StopsAndGoes, WhatTheHostRefusesOfAnUnplugIsTriedAgain) {
  memory_test::RefusedMappings mappings(MAP_FIXED | MAP_SHARED | MAP_NORESERVE);
  const Arena other_arena(16, {.shared = true, .thp = false});
  VirtioMem other(other_arena.blocks(), {.id = "mem2", .node = {}},
                  {.requested_size = other_arena.size()});
  large.reset();
  begin_with(other);
  host_calls.when_first_is_given_back = [&] {
    mappings.begin();
    mappings.refuses = true;
  };
  ASSERT_EQ(ask(kPlug, at(0), 16), kAck);
  for (size_t block = 0; block < 16; ++block) *other_arena.host(block) = 1;
  put_request(kUnplug, at(0), 16);
  answered = drivers[0].used_index();
  drivers[0].add({{kRequest, 24}, {kAnswer, 10, kWrite}});
  doorbells[0].signal();
  EXPECT_TRUE(eventually([&] { return mappings.refused >= 3; }));
  EXPECT_EQ(drivers[0].used_index(), answered);
  EXPECT_EQ(other.plugged_size(), 15 * kBlock);
  for (size_t block = 1; block < 16; ++block) EXPECT_EQ(*other_arena.host(block), 1);
  mappings.refuses = false;
  ASSERT_TRUE(used(0, answered + 1));
  EXPECT_EQ(memory.read<uint16_t>(kAnswer), kAck);
  EXPECT_EQ(other.plugged_size(), 0U);
  // Where nothing is gone yet, the driver may as well come again.
  ASSERT_EQ(ask(kPlug, at(0), 16), kAck);
  mappings.refuses = true;
  EXPECT_EQ(ask(kUnplug, at(0), 16), kBusy);
  EXPECT_EQ(ask(kUnplugAll), kBusy);
  mappings.refuses = false;
  EXPECT_EQ(state_of(at(0), 16), kPlugged);
  other.reset();
}

/// The host has no room for what is to be plugged in, and no mapping by which to take it back.
TEST_F(StopsAndGoes, WhatTheHostRefusesAfterAFailedPlugIsTriedAgainAfterAWhile) {
  memory_test::RefusedMappings mappings(MAP_FIXED | MAP_SHARED | MAP_NORESERVE);
  host_calls.when_first_is_given_back = [&] { mappings.begin(); };
  ASSERT_EQ(ask(kPlug, at(0), 1), kAck);
  ASSERT_EQ(ask(kUnplug, at(0), 1), kAck);
  host_calls.is_full = true;
  mappings.refuses = true;
  EXPECT_EQ(ask(kPlug, at(0), 2), kBusy);
  EXPECT_TRUE(eventually([&] { return mappings.refused >= 3; }));
  EXPECT_LT(mappings.refused, 20) << "it is not asked all the time";
  EXPECT_EQ(host_calls.given_back, 1U);
  mappings.refuses = false;
  EXPECT_TRUE(eventually([&] { return host_calls.given_back == 2; }));
  host_calls.is_full = false;
  EXPECT_EQ(ask(kPlug, at(0), 2), kAck);
}

/// §5.15.6.2: the device must not modify memory of blocks that are plugged in.
TEST_F(MemTest, BlocksThatStayPluggedInKeepTheirContent) {
  constexpr uint16_t kAll = 16 << 10;
  const Arena large(kAll);
  VirtioMem other(large.blocks(), {.id = "mem1", .node = {}}, {.requested_size = large.size()});
  begin_with(other);
  bool stopped = false;
  for (int round = 0; round < 50 && !stopped; ++round) {
    ASSERT_EQ(ask(kPlug, at(0), kAll), kAck);
    for (size_t block = 0; block < kAll; ++block) *large.host(block) = 1;
    put_request(kUnplug, at(0), kAll);
    const uint16_t answered = drivers[0].used_index();
    drivers[0].add({{kRequest, 24}, {kAnswer, 10, kWrite}});
    doorbells[0].signal();
    const volatile uint8_t& first = *large.host(0);
    while (first == 1) std::this_thread::yield();
    pause(other);
    const uint64_t left = other.plugged_size() / kBlock;
    stopped = left != 0;
    const auto has_content = [&](size_t block) { return *large.host(block) == 1; };
    for (size_t block = kAll - left; block < kAll; ++block) ASSERT_TRUE(has_content(block));
    other.resume();
    ASSERT_TRUE(used(0, answered + 1));
    EXPECT_EQ(memory.read<uint16_t>(kAnswer), kAck);
    EXPECT_EQ(other.plugged_size(), 0U);
  }
  EXPECT_TRUE(stopped);
  other.reset();
}

TEST_F(MemTest, ADeviceMadeFromItsStateGoesOn) {
  ASSERT_EQ(ask(kPlug, at(2), 3), kAck);
  ASSERT_EQ(ask(kPlug, at(9), 1), kAck);
  const VirtioMemState state = device.state();
  const Arena next(kBlocks);
  const VirtioMem second(next.blocks(), {.id = "mem0", .node = {}}, state);
  EXPECT_EQ(second.plugged_size(), 4 * kBlock);
  EXPECT_EQ(second.state().requested_size, 8 * kBlock);
  EXPECT_EQ(second.state().plugged, state.plugged);
  EXPECT_FALSE(next.same_memory(2, 3));
  EXPECT_TRUE(next.same_memory(0, 1));
}

/// A guest that plugs every other block would use up the process's mappings.
TEST_F(MemTest, WhatIsPluggedIsNotScatteredWithoutEnd) {
  constexpr size_t kRuns = PluggedBlocks::kMaxPieces;
  const Arena large(2 * kRuns + 4);
  VirtioMemState state{.requested_size = large.size(), .plugged = {}};
  for (size_t i = 0; i < kRuns; ++i) state.plugged.insert(state.plugged.end(), {true, false});
  state.plugged[1] = true;  // the first run is of three blocks
  VirtioMem scattered(large.blocks(), {.id = "mem1", .node = {}}, state);
  begin_with(scattered);
  constexpr size_t kLast = 2 * kRuns + 2;
  EXPECT_EQ(ask(kPlug, at(kLast), 1), kAck) << "8,192 runs";
  EXPECT_EQ(ask(kUnplug, at(1), 1), kBusy);
  EXPECT_EQ(ask(kPlug, at(kLast - 2), 1), kBusy);
  EXPECT_EQ(ask(kPlug, at(kLast + 1), 1), kAck) << "a longer run";
  EXPECT_EQ(ask(kUnplug, at(0), 1), kAck) << "a shorter one";
  EXPECT_EQ(ask(kUnplug, at(4), 1), kAck) << "one less";
  EXPECT_EQ(ask(kPlug, at(kLast - 2), 1), kAck);
  EXPECT_EQ(ask(kUnplugAll), kAck);
  EXPECT_EQ(ask(kPlug, at(2), 1), kAck);
  scattered.reset();
}

/// Memory that fills a gap becomes one mapping with that on one side only.
TEST_F(MemTest, WhoFillsGapsHasNotFewerPieces) {
  constexpr size_t kPieces = PluggedBlocks::kMaxPieces;
  const Arena large(2 * kPieces + 4);
  VirtioMemState state{.requested_size = large.size(), .plugged = {}};
  for (size_t i = 0; i < kPieces; ++i) state.plugged.insert(state.plugged.end(), {true, false});
  VirtioMem scattered(large.blocks(), {.id = "mem1", .node = {}}, state);
  begin_with(scattered);
  for (size_t gap = 1; gap < 200; gap += 2) ASSERT_EQ(ask(kPlug, at(gap), 1), kAck);
  EXPECT_EQ(ask(kPlug, at(2 * kPieces + 2), 1), kBusy);
  EXPECT_EQ(ask(kUnplug, at(0), 100), kAck) << "fifty pieces less";
  EXPECT_EQ(ask(kPlug, at(2 * kPieces + 2), 1), kAck);
  scattered.reset();
}

/// The mappings are the process's, which has many regions.
TEST_F(MemTest, SeveralRegionsTogetherHaveNoMorePieces) {
  constexpr size_t kPieces = PluggedBlocks::kMaxPieces;
  const Arena large(2 * kPieces);
  VirtioMemState state{.requested_size = large.size(), .plugged = {}};
  for (size_t i = 0; i < kPieces; ++i) state.plugged.insert(state.plugged.end(), {true, false});
  const Arena second(256);
  VirtioMem other(second.blocks(), {.id = "mem2", .node = {}}, {.requested_size = second.size()});
  begin_with(other);
  constexpr size_t kOwn = PluggedBlocks::kOwnPieces;
  {
    const VirtioMem scattered(large.blocks(), {.id = "mem1", .node = {}}, state);
    for (size_t i = 0; i < kOwn; ++i) ASSERT_EQ(ask(kPlug, at(2 * i), 1), kAck);
    EXPECT_EQ(ask(kPlug, at(2 * kOwn), 1), kBusy);
  }
  EXPECT_EQ(ask(kPlug, at(2 * kOwn), 1), kAck) << "the other region is gone";
  other.reset();
}

TEST_F(MemTest, AStateThatWasWrittenDownIsTakenOver) {
  ASSERT_EQ(ask(kPlug, at(2), 3), kAck);
  ASSERT_EQ(ask(kPlug, at(15), 1), kAck);
  pause(device);
  CborWriter writer;
  device.save(writer);
  const std::vector<uint8_t> bytes = writer.take();
  const Arena next(kBlocks);
  VirtioMem second(next.blocks(), {.id = "mem0", .node = {}}, {});
  MessageReader reader(bytes, {});
  reader.value().map([&](Fields& fields) { second.restore(fields); });
  EXPECT_EQ(second.state().plugged, device.state().plugged);
  EXPECT_EQ(second.state().requested_size, 8 * kBlock);
  EXPECT_EQ(second.plugged_size(), 4 * kBlock);
  const Arena small(4);
  VirtioMem other(small.blocks(), {.id = "mem0", .node = {}}, {});
  MessageReader again(bytes, {});
  EXPECT_THROW(again.value().map([&](Fields& fields) { other.restore(fields); }), Error);
}

TEST_F(MemTest, RefusesAStateThatCannotBe) {
  const Arena other(4);
  const auto make = [&](const VirtioMemState& state) {
    (void)VirtioMem(other.blocks(), {.id = "mem1", .node = {}}, state);
  };
  EXPECT_THROW(make({.requested_size = 5 * kBlock}), Error);
  EXPECT_THROW(make({.requested_size = 4096}), Error);
  EXPECT_THROW(make({.plugged = std::vector<bool>(5)}), Error);
  const std::vector<bool> last_two{false, false, true, true};
  const auto unplugging = [&](size_t first, size_t count, size_t done) {
    make({.plugged = last_two, .unplugging = {{{first, count}, done}}});
  };
  EXPECT_NO_THROW(unplugging(1, 3, 1));
  EXPECT_THROW(unplugging(1, 3, 0), Error) << "the first of them is gone";
  EXPECT_THROW(unplugging(2, 2, 2), Error) << "all of them are";
  EXPECT_THROW(unplugging(2, 3, 0), Error);
  EXPECT_THROW(unplugging(5, 1, 0), Error);
  EXPECT_THROW(unplugging(2, SIZE_MAX, 0), Error);
}

TEST_F(MemTest, SurvivesFourVcpusThatRespectNothing) {
  std::atomic<bool> done = false;
  std::vector<std::thread> vcpus;
  for (unsigned i = 0; i < 4; ++i) {
    vcpus.emplace_back([&, i] {
      for (uint64_t n = i; !done; n = n * 6364136223846793005 + 1442695040888963407) {
        // Memory that is there or not, a request while it is read, and the registers.
        std::atomic_ref<uint8_t>(*(the_arena().host(0) + (n >> 8) % the_arena().size()))
            .fetch_add(1);
        shared_field<uint64_t>(memory, kRequest).store((n >> 5) % 5);
        shared_field<uint64_t>(memory, kRequest + 8)
            .store(at((n >> 9) % (kBlocks + 2)) + (n % 61 == 0 ? n % kBlock : 0));
        shared_field<uint64_t>(memory, kRequest + 16).store((n >> 13) % kBlocks);
        std::array<uint8_t, 56> seen{};
        device.read_config(0, seen);
        EXPECT_LE(load<uint64_t>(seen, 40), kBlocks * kBlock);
      }
    });
  }
  for (int round = 0; round < 2000; ++round) {
    send(0, {{kRequest, 24}, {kAnswer, 10, kWrite}});
    if (round % 100 == 50) device.resize(static_cast<uint64_t>(round) / 100 % kBlocks * kBlock);
    if (round % 400 == 300) restart();
  }
  done = true;
  for (std::thread& vcpu : vcpus) vcpu.join();
  EXPECT_EQ(host.failure(), "");
  const VirtioMemState state = device.state();
  EXPECT_EQ(device.plugged_size(),
            static_cast<uint64_t>(std::ranges::count(state.plugged, true)) * kBlock);
  EXPECT_NE(counter("plugged_in_bytes"), 0U);
}

}  // namespace
}  // namespace tsvmm::virtio_test

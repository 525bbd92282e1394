#include "virtio/clock.h"
#include "virtio_loop_fixture.h"

namespace tsvmm::virtio_test {
namespace {

constexpr GuestAddress kRequest = 0x100000;
constexpr GuestAddress kResponse = 0x101000;
constexpr uint8_t kUntouched = 0xee;

class ClockTest : public LoopDeviceTest {
 protected:
  ClockTest() {
    start({{VirtioClock::Type::kUtc, CLOCK_REALTIME},
           {VirtioClock::Type::kMonotonic, CLOCK_MONOTONIC}});
  }

  void start(std::vector<VirtioClock::Clock> clocks) {
    clock = std::make_unique<VirtioClock>(loop, std::move(clocks));
    activate(*clock, {0});
  }
  /// The response to a request of this type for a clock, with the given lengths.
  std::vector<uint8_t> ask(uint16_t type, uint16_t clock_id = 0, uint32_t request = 16,
                           uint32_t room = 24) {
    EXPECT_TRUE(memory.write<uint64_t>(kRequest, type));
    EXPECT_TRUE(memory.write<uint64_t>(kRequest + 8, clock_id));
    for (uint32_t i = 0; i < 64; ++i) EXPECT_TRUE(memory.write(kResponse + i, kUntouched));
    std::vector<DriverQueue::Buffer> buffers;
    if (request != 0) buffers.push_back({kRequest, request});
    if (room != 0) buffers.push_back({kResponse, room, kWrite});
    const uint32_t length = send(0, buffers);
    std::vector<uint8_t> bytes(length);
    if (length != 0) {
      EXPECT_TRUE(memory.read(kResponse, bytes));
    }
    EXPECT_EQ(memory.read<uint8_t>(kResponse + length), kUntouched);
    return bytes;
  }

  std::unique_ptr<VirtioClock> clock;
};

TEST_F(ClockTest, SaysWhatClocksThereAre) {
  EXPECT_EQ(load<uint16_t>(ask(0x1000, 0, 8), 8), 2);
  const auto utc = ask(0x1001, 0);
  ASSERT_EQ(utc.size(), 16U);
  EXPECT_EQ(load<uint64_t>(utc, 0), 0U);
  EXPECT_EQ(load<uint64_t>(utc, 8), 0U);
  EXPECT_EQ(ask(0x1001, 1)[8], 2);
  EXPECT_EQ(load<uint64_t>(ask(0x1002, 1), 8), 0U) << "no cross-timestamps";
}

TEST_F(ClockTest, ReadsTheHostsClocks) {
  const auto between = [&](uint16_t id, clockid_t host_clock) {
    const auto now = [host_clock] {
      timespec time{};
      ::clock_gettime(host_clock, &time);
      return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
    };
    const uint64_t before = now();
    const auto reading = load<uint64_t>(ask(1, id), 8);
    EXPECT_LE(before, reading);
    EXPECT_LE(reading, now());
  };
  between(0, CLOCK_REALTIME);
  between(1, CLOCK_MONOTONIC);
}

TEST_F(ClockTest, RefusesWhatItDoesNotKnow) {
  const auto status = [&](uint16_t type, uint16_t id = 0, uint32_t request = 16) {
    const auto response = ask(type, id, request);
    EXPECT_EQ(response.size(), 8U);
    return response[0];
  };
  for (const uint16_t type : {0, 2, 3, 0xfff, 0x1003, 0x1004, 0x1005, 0x2000, 0xffff}) {
    EXPECT_EQ(status(type), 2) << type;
  }
  for (const uint16_t id : {2, 3, 0xffff}) EXPECT_EQ(status(1, id), 3) << id;
  EXPECT_EQ(status(1, 0, 15), 4);
  EXPECT_EQ(status(0x1001, 0, 8), 4);
  EXPECT_EQ(status(1, 0, 7), 4);
  EXPECT_EQ(status(1, 0, 0), 4);
  EXPECT_EQ(host.failure(), "");
}

TEST_F(ClockTest, AnswersIntoWhateverRoomThereIs) {
  EXPECT_EQ(ask(1, 0, 16, 16).size(), 16U);
  const auto cut = ask(1, 0, 16, 15);
  ASSERT_EQ(cut.size(), 8U);
  EXPECT_EQ(cut[0], 4);
  EXPECT_TRUE(ask(1, 0, 16, 7).empty());
  EXPECT_TRUE(ask(1, 0, 16, 0).empty());
  // Requests and responses in pieces of any length, and longer ones than there are.
  ASSERT_TRUE(memory.write<uint64_t>(kRequest, 0x1000));
  EXPECT_EQ(send(0, {{kRequest, 1},
                     {kRequest + 1, 4000},
                     {kResponse, 5, kWrite},
                     {kResponse + 5, 4000, kWrite}}),
            16U);
  EXPECT_EQ(memory.read<uint16_t>(kResponse + 8), 2);
}

TEST_F(ClockTest, ABrokenRingFailsItAndAResetHealsIt) {
  drivers[0].set_available_index(1000);
  doorbells[0].signal();
  EXPECT_TRUE(eventually([&] { return !host.failure().empty(); }));
  clock->reset();
  drivers[0] = DriverQueue(memory, 0x8000, kQueueSize);
  start({{VirtioClock::Type::kTai, CLOCK_TAI}});
  EXPECT_EQ(ask(0x1001, 0)[8], 1);
  EXPECT_EQ(ask(1, 1)[0], 3);
}

TEST_F(ClockTest, ClocksOfTheHostBeginWithUtc) {
  const auto clocks = VirtioClock::host_clocks();
  ASSERT_GE(clocks.size(), 2U);
  EXPECT_EQ(clocks[0].type, VirtioClock::Type::kUtc);
  EXPECT_EQ(clocks[1].type, VirtioClock::Type::kMonotonic);
}

}  // namespace
}  // namespace tsvmm::virtio_test

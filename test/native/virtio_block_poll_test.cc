#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "virtio/block_poll.h"

namespace tsvmm {
namespace {

constexpr size_t kDepth = 32;
constexpr int kTurns = 100;
constexpr uint64_t kDiskNs = 50'000;
constexpr uint64_t kAnswerNs = 2'500;
constexpr uint64_t kLookNs = 100;

/// Time that passes when the test says so, and a little with each look at it.
uint64_t now_ns = 1;
uint64_t test_clock() noexcept { return now_ns += kLookNs; }

class BlockPollTest : public testing::Test {
 protected:
  /// How many looks it took in vain until the thread slept.
  int looks_in_vain(size_t in_flight, bool takes = true) {
    int looks = 0;
    EXPECT_FALSE(poll.wait(in_flight, takes, [&] {
      ++looks;
      return false;
    }));
    return looks;
  }

  /// The disk ends a request, and the driver makes another one available `answer_ns` later. True if
  /// that was found by looking, without a doorbell.
  bool replace_request(uint64_t answer_ns) {
    poll.woken_by_host();
    poll.request_returned();
    const uint64_t answer = now_ns + answer_ns;
    const bool found = poll.wait(kDepth - 1, true, [&] { return now_ns >= answer; });
    if (!found) {
      now_ns = std::max(now_ns, answer);
      poll.woken_by_driver();
    }
    poll.request_taken();
    return found;
  }

  BlockPollBy<test_clock> poll;
};

TEST_F(BlockPollTest, ADriverThatAnswersAtOnceRingsNoDoorbellWhileTheDiskTakesItsTime) {
  int doorbells = 0;
  for (int turn = 0; turn < kTurns; ++turn) {
    if (!replace_request(kAnswerNs)) ++doorbells;
    ASSERT_EQ(looks_in_vain(kDepth), 0) << "all are answered, and the disk takes its time";
    now_ns += kDiskNs;
  }
  EXPECT_LE(doorbells, 2);
}

TEST_F(BlockPollTest, ADriverThatTakesItsTimeIsSleptFor) {
  for (int turn = 0; turn < kTurns; ++turn) (void)replace_request(kAnswerNs);
  int looks = 0;
  for (int turn = 0; turn < kTurns; ++turn) {
    poll.woken_by_host();
    poll.request_returned();
    looks = looks_in_vain(kDepth - 1);
    now_ns += kDiskNs;
  }
  EXPECT_EQ(looks, 0);
}

TEST_F(BlockPollTest, OfSeveralInFlightTheHostsAnswersAreSleptFor) {
  for (int turn = 0; turn < kTurns; ++turn) {
    EXPECT_EQ(looks_in_vain(kDepth), 0);
    now_ns += kLookNs;
    poll.woken_by_host();
  }
}

TEST_F(BlockPollTest, TheOnlyOneInFlightIsLookedForWhileTheDiskIsFast) {
  for (int turn = 0; turn < kTurns; ++turn) {
    (void)looks_in_vain(1);
    poll.woken_by_host();
  }
  EXPECT_TRUE(poll.wait(1, true, [] { return true; }));
  for (int turn = 0; turn < kTurns; ++turn) {
    (void)looks_in_vain(1);
    now_ns += kDiskNs;
    poll.woken_by_host();
  }
  EXPECT_EQ(looks_in_vain(1), 0);
}

TEST_F(BlockPollTest, TheNextRequestIsLookedForWhileNothingIsInFlight) {
  for (int turn = 0; turn < kTurns; ++turn) {
    (void)looks_in_vain(0);
    poll.woken_by_driver();
  }
  EXPECT_TRUE(poll.wait(0, true, [] { return true; }));
  EXPECT_EQ(looks_in_vain(0, false), 0) << "it would not be taken";
}

TEST_F(BlockPollTest, WhoGetsNoAnswersAnyMoreLooksForTheDiskAgain) {
  for (int turn = 0; turn < kTurns; ++turn) {
    (void)looks_in_vain(1);
    poll.woken_by_host();
  }
  for (size_t i = 0; i < kDepth; ++i) poll.request_returned();
  EXPECT_EQ(looks_in_vain(1), 0) << "a driver whose answers have not been learned";
  poll.woken_by_host();
  EXPECT_TRUE(poll.wait(1, true, [] { return true; }));
}

}  // namespace
}  // namespace tsvmm

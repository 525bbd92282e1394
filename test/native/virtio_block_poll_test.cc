#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "simulated_clock.h"
#include "virtio/block_poll.h"

namespace tsvmm {
namespace {

constexpr size_t kDepth = 32;
constexpr int kTurns = 1000;
constexpr uint64_t kDiskNs = 50'000;
/// From a doorbell until the thread runs: more than looking would ever take.
constexpr uint64_t kDoorbellNs = 30'000;

class BlockPollTest : public testing::Test {
 protected:
  static bool never() { return false; }
  static bool at_once() { return true; }

  void sleep(uint64_t time_ns) {
    now_ns += time_ns;
    poll.woken();
  }

  /// For how long the thread looks in vain until it sleeps.
  uint64_t time_in_vain(size_t in_flight, bool takes = true) {
    const uint64_t begin = now_ns;
    EXPECT_FALSE(poll.wait(in_flight, takes, never, never));
    return now_ns - begin;
  }

  /// The disk ends a request, and the driver makes another one available `answer_ns` later. True if
  /// that was found by looking, without a doorbell.
  bool replace_request(uint64_t answer_ns) {
    poll.request_returned();
    const uint64_t answer = now_ns + answer_ns;
    const bool found = poll.wait(
        kDepth - 1, true, [&] { return now_ns >= answer; }, never);
    if (!found) sleep(std::max(now_ns, answer) - now_ns + kDoorbellNs);
    poll.request_taken();
    return found;
  }

  BlockPollBy<test_clock> poll;
};

TEST_F(BlockPollTest, ADriverThatReactsAtOnceRingsNoDoorbellWhileTheDiskTakesItsTime) {
  for (int turn = 0; turn < kTurns; ++turn) {
    ASSERT_TRUE(replace_request(2500));
    ASSERT_LE(time_in_vain(kDepth), 2 * kLookNs) << "it has reacted to all, and the disk is slow";
    sleep(kDiskNs);
  }
}

TEST_F(BlockPollTest, ThatADriverReactsAtOnceIsFoundOutHoweverLongItsDoorbellsTake) {
  for (int turn = 0; turn < kTurns; ++turn) (void)replace_request(100'000);
  int doorbells = 0;
  for (int turn = 0; turn < kTurns; ++turn) {
    if (!replace_request(2500)) ++doorbells;
    sleep(kDiskNs);
  }
  EXPECT_LT(doorbells, 64);
}

TEST_F(BlockPollTest, ADriverThatTakesItsTimeIsSleptFor) {
  uint64_t looked = 0;
  for (int turn = 0; turn < kTurns; ++turn) {
    poll.request_returned();
    looked += time_in_vain(kDepth - 1);
    sleep(kDiskNs);
  }
  EXPECT_LT(looked, kTurns * kDiskNs / 100);
}

TEST_F(BlockPollTest, WhatTheDiskHasMeanwhileWaitsForTheDriversReaction) {
  poll.request_returned();
  int looks = 0;
  EXPECT_TRUE(poll.wait(
      kDepth - 1, true, [&] { return ++looks == 10; }, at_once));
  EXPECT_EQ(looks, 10);
  EXPECT_TRUE(poll.wait(kDepth - 1, true, never, at_once)) << "and is there after it";
}

TEST_F(BlockPollTest, OfSeveralInFlightTheHostsAnswersAreSleptFor) {
  for (int turn = 0; turn < kTurns; ++turn) {
    ASSERT_LE(time_in_vain(kDepth), 2 * kLookNs);
    sleep(kLookNs);
  }
}

TEST_F(BlockPollTest, TheOnlyOneInFlightIsLookedForWhileTheDiskIsFast) {
  for (int turn = 0; turn < kTurns; ++turn) {
    (void)time_in_vain(1);
    sleep(0);
  }
  EXPECT_TRUE(poll.wait(1, true, never, at_once));
  EXPECT_TRUE(poll.wait(1, true, at_once, never));
  EXPECT_FALSE(poll.wait(1, false, at_once, never)) << "it would not be taken";
  for (int turn = 0; turn < kTurns; ++turn) {
    (void)time_in_vain(1);
    sleep(kDiskNs);
  }
  EXPECT_LE(time_in_vain(1), 2 * kLookNs);
}

TEST_F(BlockPollTest, TheNextRequestIsLookedForWhileNothingIsInFlight) {
  for (int turn = 0; turn < kTurns; ++turn) {
    (void)time_in_vain(0);
    sleep(0);
  }
  EXPECT_TRUE(poll.wait(0, true, at_once, never));
  EXPECT_EQ(time_in_vain(0, false), 0u) << "it would not be taken";
}

TEST_F(BlockPollTest, ADriverThatHasOtherThingsToDoIsNotLookedForAnyMore) {
  for (size_t i = 0; i < kDepth; ++i) poll.request_returned();
  EXPECT_GT(time_in_vain(2), kLookNs);
  EXPECT_LE(time_in_vain(2), 2 * kLookNs);
}

}  // namespace
}  // namespace tsvmm

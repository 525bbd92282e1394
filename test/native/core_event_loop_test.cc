#include <fcntl.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <future>
#include <memory>
#include <thread>

#include "core/error.h"
#include "core/event_fd.h"
#include "core/event_loop.h"
#include "denied_calls.h"
#include "device_test_support.h"
#include "threads_named.h"

namespace tsvmm {
namespace {

TEST(EventLoop, RunsAHandlerWhenItsDescriptorIsReady) {
  EventLoop loop("test-loop");
  const EventFd event;
  std::promise<uint64_t> seen;
  ASSERT_TRUE(
      loop.add(event.fd(), io::kReadable, [&](IoEvents) { seen.set_value(event.consume()); }));
  event.signal();
  EXPECT_EQ(seen.get_future().get(), 1U);
  loop.remove(event.fd());
}

TEST(EventLoop, RefusesARegularFile) {
  char path[] = "/tmp/tsvmm-loop-XXXXXX";
  const UniqueFd file(::mkstemp(path));
  ::unlink(path);
  EventLoop loop("test-loop");
  EXPECT_FALSE(loop.add(file.get(), io::kReadable, [](IoEvents) {}));
}

TEST(EventLoop, DoesNotRunAHandlerAfterRemove) {
  EventLoop loop("test-loop");
  const EventFd event;
  for (int i = 0; i < 200; ++i) {
    auto alive = std::make_unique<std::atomic<int>>(0);
    ASSERT_TRUE(loop.add(event.fd(), io::kReadable, [&counter = *alive](IoEvents) { ++counter; }));
    event.signal();
    loop.remove(event.fd());
    alive.reset();  // a late handler would touch freed memory, which the sanitizer tells
    (void)event.consume();
  }
}

TEST(EventLoop, OneThatIsToBeAskedKeepsWhatItIsGivenUntilThen) {
  EventLoop loop("asked-loop", EventLoop::Start::kWhenAsked);
  loop.start();  // nothing has been asked for that would need a thread
  EXPECT_EQ(threads_named("asked-loop"), 0U);
  EventLoop other("asked-loop", EventLoop::Start::kWhenAsked);
  const EventFd event;
  std::promise<uint64_t> seen;
  std::promise<void> ran;
  ASSERT_TRUE(
      other.add(event.fd(), io::kReadable, [&](IoEvents) { seen.set_value(event.consume()); }));
  event.signal();
  other.post([&] { ran.set_value(); });
  EXPECT_TRUE(other.wait_idle(Deadline::after(std::chrono::seconds(20))));
  EXPECT_EQ(threads_named("asked-loop"), 0U);
  other.start();
  other.start();
  ran.get_future().get();
  EXPECT_EQ(seen.get_future().get(), 1U);
  loop.call([] {});
}

TEST(EventLoop, OneThatIsToBeAskedIsStartedByWhoWaits) {
  EventLoop loop("test-loop", EventLoop::Start::kWhenAsked);
  const EventFd event;
  ASSERT_TRUE(loop.add(event.fd(), io::kReadable, [](IoEvents) {}));
  loop.remove(event.fd());
  bool ran = false;
  loop.call([&] { ran = true; });
  EXPECT_TRUE(ran);
}

TEST(EventLoop, OneThatWasNeverAskedDropsWhatItWasGiven) {
  auto kept = std::make_shared<int>(0);
  {
    EventLoop loop("test-loop", EventLoop::Start::kWhenAsked);
    loop.post([kept] {});
    EXPECT_EQ(kept.use_count(), 2);
    loop.stop();
    EXPECT_EQ(kept.use_count(), 1);
    loop.start();
    loop.post([kept] {});
  }
  EXPECT_EQ(kept.use_count(), 1);
}

TEST(EventLoop, APauseThatCameBeforeTheThreadHoldsIt) {
  EventLoop loop("test-loop", EventLoop::Start::kWhenAsked);
  std::atomic<bool> ran = false;
  loop.post([&] { ran = true; });
  loop.begin_pause();
  loop.start();
  EXPECT_TRUE(loop.wait_paused(Deadline::after(std::chrono::seconds(20))));
  EXPECT_FALSE(ran);
  loop.resume();
  loop.call([] {});
  EXPECT_TRUE(ran);
}

TEST(EventLoop, APauseThatCameBeforeTheFirstWatchHoldsIt) {
  EventLoop loop("test-loop");
  const EventFd event;
  pause(loop);
  ASSERT_TRUE(loop.add(event.fd(), io::kReadable, [](IoEvents) {}));
  ASSERT_TRUE(loop.wait_paused(Deadline::after(std::chrono::seconds(10))));
  loop.remove(event.fd());
  loop.resume();
}

/// On a host whose limit of threads is reached: what leaves the loop does so in destructors.
TEST(EventLoop, OneWithoutAThreadIsLeftWithoutMakingOne) {
  std::thread([] {
    EventLoop loop("test-loop", EventLoop::Start::kWhenAsked);
    const EventFd event;
    ASSERT_TRUE(loop.add(event.fd(), io::kReadable, [](IoEvents) {}));
    DeniedCalls::deny(DeniedCalls::kThreads, EAGAIN);
    EXPECT_THROW(loop.start(), Error);
    EXPECT_NO_THROW(loop.remove(event.fd()));
  }).join();
}

/// As after wait_paused() of a loop that has a thread.
TEST(EventLoop, RemoveDoesNotWaitForAPausedLoopWithoutAThread) {
  const EventFd event;
  EventLoop loop("test-loop", EventLoop::Start::kWhenAsked);
  ASSERT_TRUE(loop.add(event.fd(), io::kReadable, [](IoEvents) {}));
  pause(loop);
  auto removed = std::async(std::launch::async, [&] { loop.remove(event.fd()); });
  EXPECT_EQ(removed.wait_for(std::chrono::seconds(5)), std::future_status::ready);
  loop.resume();
}

TEST(EventLoop, AHandlerMayRemoveItself) {
  EventLoop loop("test-loop");
  const EventFd event;
  std::atomic<int> runs = 0;
  std::promise<void> ran;
  ASSERT_TRUE(loop.add(event.fd(), io::kReadable, [&](IoEvents) {
    ++runs;
    loop.remove(event.fd());
    ran.set_value();
  }));
  event.signal();
  ran.get_future().wait();
  loop.call([] {});
  EXPECT_EQ(runs, 1);
}

TEST(EventLoop, CallRunsInPlaceOnItsOwnThread) {
  EventLoop loop("test-loop");
  bool inner = false;
  loop.call([&] { loop.call([&] { inner = true; }); });
  EXPECT_TRUE(inner);
}

TEST(EventLoop, ATaskIsWantedWhileAnotherWaitsBehindIt) {
  EventLoop loop("test-loop");
  std::promise<void> begun;
  std::promise<void> goes_on;
  loop.post([&] {
    begun.set_value();
    goes_on.get_future().wait();
  });
  begun.get_future().wait();
  // Both come in the loop's next turn.
  bool first = false;
  bool last = true;
  loop.post([&] { first = loop.is_wanted(); });
  const auto job = loop.begin([] {});
  goes_on.set_value();
  ASSERT_TRUE(job->wait(Deadline::never()));
  EXPECT_TRUE(first);
  loop.call([&] { last = loop.is_wanted(); });
  EXPECT_FALSE(last);
}

TEST(EventLoop, HoldsHandlersAndTasksWhilePaused) {
  EventLoop loop("test-loop");
  const EventFd event;
  std::atomic<int> handlers = 0;
  std::atomic<int> tasks = 0;
  std::promise<void> handled;
  ASSERT_TRUE(loop.add(event.fd(), io::kReadable, [&](IoEvents) {
    (void)event.consume();
    if (++handlers == 1) {
      handled.set_value();
    }
  }));
  pause(loop);
  event.signal();
  loop.post([&] { ++tasks; });
  ::usleep(20000);
  EXPECT_EQ(handlers + tasks, 0);
  loop.resume();
  loop.call([] {});
  EXPECT_EQ(tasks, 1);
  // Tasks run in order, but a handler may come before or after them.
  EXPECT_EQ(handled.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  loop.call([] {});
  EXPECT_EQ(handlers, 1);
}

TEST(EventLoop, APauseIsNotLostBesideOtherWakeUps) {
  EventLoop loop("test-loop");
  std::atomic<int> runs = 0;
  for (int i = 0; i < 20000; ++i) {
    loop.call([] {});  // it holds no longer and waits for events
    loop.post([&] { ++runs; });
    // The pause comes at every moment of the loop's way through the wake-up.
    const auto then = std::chrono::steady_clock::now() + std::chrono::nanoseconds(i * 37 % 30000);
    while (std::chrono::steady_clock::now() < then) {
    }
    pause(loop);
    loop.resume();
  }
  loop.call([] {});
  EXPECT_EQ(runs, 20000);
}

/// Of a device that leaves a machine while that is paused.
TEST(EventLoop, RemoveDoesNotWaitForALoopThatIsHeld) {
  const EventFd event;  // outlives the loop, whose thread reads it until the end
  EventLoop loop("test");
  std::atomic<int> runs = 0;
  loop.add(event.fd(), io::kReadable, [&](IoEvents) { ++runs; });
  pause(loop);
  event.signal();
  auto removed = std::async(std::launch::async, [&] { loop.remove(event.fd()); });
  EXPECT_EQ(removed.wait_for(std::chrono::seconds(20)), std::future_status::ready);
  const int before = runs;
  loop.resume();
  removed.get();
  loop.call([] {});
  EXPECT_EQ(runs, before);
  EXPECT_TRUE(loop.add(event.fd(), io::kReadable, [&](IoEvents) { (void)event.consume(); }));
}

TEST(EventLoop, PauseOfALoopThatNeverRanReturns) {
  EventLoop loop("test-loop");
  pause(loop);
  std::atomic<bool> ran = false;
  loop.post([&] { ran = true; });
  ::usleep(20000);
  EXPECT_FALSE(ran);
  loop.resume();
  loop.call([] {});
  EXPECT_TRUE(ran);
}

TEST(EventLoop, WhoWaitsForAHandlerThatIsStuckMayGiveUp) {
  EventLoop loop("test-loop");
  const auto soon = [] { return Deadline::after(std::chrono::milliseconds(20)); };
  std::promise<void> answer;
  loop.post([future = answer.get_future().share()] { future.wait(); });
  std::atomic<int> runs = 0;
  const auto job = loop.begin([&] { ++runs; });
  EXPECT_FALSE(job->wait(soon()));
  loop.begin_pause();
  EXPECT_FALSE(loop.wait_paused(soon()));
  loop.resume();  // takes the pause back
  Cancellation cancellation;
  cancellation.request();
  EXPECT_FALSE(job->wait(Deadline::never().unless(cancellation)));
  EXPECT_EQ(runs, 0);
  answer.set_value();
  EXPECT_TRUE(job->wait(Deadline::never()));
  EXPECT_EQ(runs, 1);
  loop.begin_pause();
  EXPECT_TRUE(loop.wait_paused(Deadline::never()));
  loop.resume();
  EXPECT_TRUE(loop.begin([&] { ++runs; })->wait(Deadline::never()));
}

TEST(EventLoop, AJobThatIsDroppedIsOver) {
  EventLoop loop("test-loop");
  loop.call([] {});
  pause(loop);
  const auto job = loop.begin([] { FAIL() << "the loop has stopped"; });
  EXPECT_FALSE(job->wait(Deadline::now()));
  loop.stop();
  EXPECT_TRUE(job->wait(Deadline::now()));
  EXPECT_TRUE(loop.begin([] {})->wait(Deadline::now()));
}

TEST(EventLoop, StopEndsAPausedLoopAndWaitingCalls) {
  EventLoop loop("test-loop");
  loop.call([] {});
  pause(loop);
  std::thread waiting([&] { loop.call([] {}); });
  ::usleep(20000);
  loop.stop();
  waiting.join();
  EXPECT_FALSE(loop.add(0, io::kReadable, [](IoEvents) {}));
}

}  // namespace
}  // namespace tsvmm

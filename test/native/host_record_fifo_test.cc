// Records in a FIFO whose readers come and go.

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "core/deadline.h"
#include "denied_calls.h"
#include "device_test_support.h"
#include "host/record_fifo.h"
#include "host_test_support.h"

namespace tsvmm {
namespace {

/// Of different lengths, each with its number and a letter of its own.
std::string record(int number, size_t length = 40) {
  std::string text = std::to_string(number) + ":";
  return text.append(length, static_cast<char>('a' + number % 26)) + "\n";
}

class RecordFifoTest : public HostFolder {
 protected:
  RecordFifoTest() {
    ::signal(SIGPIPE, SIG_IGN);
    EXPECT_EQ(::mkfifo(path("fifo").c_str(), 0600), 0);
    const UniqueFd first = open(O_RDONLY);
    const UniqueFd writer = open(O_WRONLY);
    fifo.emplace(RecordFifo::duplicate_if_fifo(writer.get()).value());
  }

  [[nodiscard]] UniqueFd open(int mode) const {
    return UniqueFd(::open(path("fifo").c_str(), mode | O_NONBLOCK | O_CLOEXEC));
  }

  size_t write(std::string_view text) {
    return fifo->write({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
  }

  /// What is there now, at most `length` bytes.
  static std::string read(const UniqueFd& reader, size_t length = SIZE_MAX) {
    std::string text;
    std::array<char, 4096> bytes{};
    while (text.size() < length) {
      const size_t most = std::min(bytes.size(), length - text.size());
      const ssize_t count = ::read(reader.get(), bytes.data(), most);
      if (count <= 0) break;
      text.append(bytes.data(), static_cast<size_t>(count));
    }
    return text;
  }

  /// Waits until so much is there to be read.
  void await(size_t size) {
    EXPECT_TRUE(eventually([&] {
      const UniqueFd reader = open(O_RDONLY);
      int count = 0;
      return ::ioctl(reader.get(), FIONREAD, &count) == 0 && static_cast<size_t>(count) >= size;
    }));
  }

  /// Opens the FIFO as one that comes a moment later, and finds `wanted` first.
  void expect_next(const std::string& wanted) {
    await(wanted.size());
    const UniqueFd reader = open(O_RDONLY);
    EXPECT_EQ(read(reader, wanted.size()), wanted);
  }

  std::optional<RecordFifo> fifo;
};

TEST_F(RecordFifoTest, RecordsWaitForTheirReader) {
  EXPECT_EQ(write(record(1)), record(1).size());
  EXPECT_EQ(write(record(2)), record(2).size());
  const UniqueFd reader = open(O_RDONLY);
  EXPECT_EQ(read(reader), record(1) + record(2));
  write(record(3));
  EXPECT_EQ(read(reader), record(3));
}

TEST_F(RecordFifoTest, WhatAReaderLeftInTheMiddleIsThereAsAWholeForTheNext) {
  for (int number = 1; number <= 3; ++number) write(record(number));
  {
    const UniqueFd reader = open(O_RDONLY);
    EXPECT_EQ(read(reader, record(1).size() + 7), record(1) + record(2).substr(0, 7));
  }
  // Without another record.
  expect_next(record(2) + record(3));
}

TEST_F(RecordFifoTest, WhatWasReadToItsEndDoesNotComeAgain) {
  write(record(1));
  write(record(2));
  {
    const UniqueFd reader = open(O_RDONLY);
    EXPECT_EQ(read(reader, record(1).size()), record(1));
  }
  expect_next(record(2));
}

TEST_F(RecordFifoTest, ReadersOfOneRecordEachThatComeAtAnyMomentGetEachOnce) {
  constexpr int kRecords = 100'000;
  const auto numbered = [](int number) { return record(number + 1'000'000); };
  std::atomic<bool> stop = false;
  std::thread writer([&] {
    for (int number = 0; number < kRecords && !stop;) {
      if (write(numbered(number)) != 0) ++number;
    }
  });
  int number = 0;
  const Deadline deadline = Deadline::after(std::chrono::seconds(60));
  while (number < kRecords && !HasFailure() && !deadline.passed()) {
    const UniqueFd reader = open(O_RDONLY);
    const std::string found = read(reader, numbered(0).size());
    if (!found.empty()) EXPECT_EQ(found, numbered(number++));
  }
  stop = true;
  writer.join();
  EXPECT_EQ(number, kRecords);
}

TEST_F(RecordFifoTest, AReaderThatTakesNothingChangesNothing) {
  write(record(1));
  for (int i = 0; i < 3; ++i) (void)open(O_RDONLY);
  expect_next(record(1));
}

TEST_F(RecordFifoTest, OneReaderAfterTheOtherLeavesInTheMiddle) {
  for (int number = 0; number < 50; ++number) {
    write(record(number));
    write(record(number + 1));
    {
      const UniqueFd reader = open(O_RDONLY);
      EXPECT_EQ(read(reader, 5), record(number).substr(0, 5));
    }
    expect_next(record(number) + record(number + 1));
  }
}

TEST_F(RecordFifoTest, ARecordWhoseRestWaitsOutsideIsWholeForTheNextReader) {
  const std::string large = record(1, 200'000);
  const size_t taken = write(large);
  ASSERT_LT(taken, large.size());
  {
    const UniqueFd reader = open(O_RDONLY);
    EXPECT_EQ(read(reader, 100), large.substr(0, 100));
  }
  await(taken);
  const UniqueFd reader = open(O_RDONLY);
  std::string found = read(reader, taken);
  for (size_t done = taken; done < large.size() && !HasFailure();) {
    const size_t more = write(std::string_view(large).substr(done));
    ASSERT_GT(more, 0U);
    found += read(reader, more);
    done += more;
  }
  EXPECT_TRUE(found == large);
  write(record(2));
  EXPECT_EQ(read(reader), record(2));
}

TEST_F(RecordFifoTest, AFullFifoThatWasLeftInTheMiddleKeepsItsOrder) {
  std::string all;
  int number = 0;
  for (;; ++number) {
    const std::string next = record(number, 3000);
    const size_t taken = write(next);
    all += next.substr(0, taken);
    if (taken < next.size()) break;
  }
  const std::string rest = record(number, 3000).substr(all.size() - all.rfind('\n') - 1);
  {
    const UniqueFd reader = open(O_RDONLY);
    EXPECT_TRUE(read(reader, 2999) == all.substr(0, 2999));
  }
  await(all.size() - 2998);
  const UniqueFd reader = open(O_RDONLY);
  std::string found;
  EXPECT_TRUE(eventually([&] {
    found += read(reader);
    return found.size() >= all.size();
  }));
  EXPECT_TRUE(found == all);
  EXPECT_EQ(write(rest), rest.size());
  EXPECT_EQ(read(reader), rest);
}

TEST_F(RecordFifoTest, AFullFifoTakesNoMore) {
  const std::string page = record(1, 4094);
  while (write(page) == page.size()) {
  }
  EXPECT_EQ(write(page), 0U);
  const UniqueFd reader = open(O_RDONLY);
  (void)read(reader);
  EXPECT_GT(write(page), 0U);
}

/// A full table of descriptors does not last; who writes keeps the record meanwhile.
TEST_F(RecordFifoTest, WithoutADescriptorARecordWaits) {
  const auto write_without = [this](const std::string& text) {
    std::thread([&] {
      DeniedCalls::deny({SYS_openat}, EMFILE);
      EXPECT_EQ(write(text), 0U);
    }).join();
  };
  write_without(record(1));
  EXPECT_EQ(write(record(1)), record(1).size());
  {
    const UniqueFd reader = open(O_RDONLY);
    EXPECT_EQ(read(reader, 5), record(1).substr(0, 5));
  }
  write_without(record(2));
  EXPECT_EQ(write(record(2)), record(2).size());
  expect_next(record(1) + record(2));
}

TEST_F(RecordFifoTest, WhatOthersWriteStays) {
  const std::string others = "of somebody else\n";
  UniqueFd reader = open(O_RDONLY);
  const UniqueFd other = open(O_WRONLY);
  write(record(1));
  ASSERT_EQ(::write(other.get(), others.data(), others.size()), ssize_t(others.size()));
  EXPECT_EQ(read(reader, record(1).size() + 3), record(1) + others.substr(0, 3));
  reader.reset();
  write(record(2));
  expect_next(others.substr(3) + record(2));
}

TEST_F(RecordFifoTest, ARestThatIsToComeFollowsWhatOthersWrote) {
  const std::string large = record(1, 200'000);
  const std::string others = "of somebody else\n";
  UniqueFd reader = open(O_RDONLY);
  const UniqueFd other = open(O_WRONLY);
  const size_t taken = write(large);
  EXPECT_EQ(read(reader, taken), large.substr(0, taken));
  ASSERT_EQ(::write(other.get(), others.data(), others.size()), ssize_t(others.size()));
  reader.reset();
  const size_t more = write(std::string_view(large).substr(taken));
  ASSERT_GT(more, 0U);
  expect_next(others + large.substr(taken, more));
}

TEST_F(RecordFifoTest, WhatIsNoFifoIsNone) {
  const UniqueFd file(::open(path("file").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_FALSE(RecordFifo::duplicate_if_fifo(file.get()).has_value());
}

}  // namespace
}  // namespace tsvmm

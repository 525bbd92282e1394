#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <vector>

#include "core/error.h"
#include "net/stream_backend.h"

namespace tsvmm {
namespace {

constexpr size_t kHeader = 12;

std::vector<uint8_t> pattern(size_t size, uint8_t seed) {
  std::vector<uint8_t> bytes(size);
  for (size_t i = 0; i < size; ++i) bytes[i] = static_cast<uint8_t>(seed + i * 7);
  return bytes;
}

/// As it goes over the socket.
std::vector<uint8_t> framed(const std::vector<uint8_t>& frame) {
  const auto size = static_cast<uint32_t>(frame.size());
  std::vector<uint8_t> bytes{static_cast<uint8_t>(size >> 24), static_cast<uint8_t>(size >> 16),
                             static_cast<uint8_t>(size >> 8), static_cast<uint8_t>(size)};
  bytes.insert(bytes.end(), frame.begin(), frame.end());
  return bytes;
}

/// Frames with their buffers, each cut into two pieces within the header and one behind it.
class Frames {
 public:
  explicit Frames(const std::vector<size_t>& sizes) {
    for (const size_t size : sizes) {
      storage_.emplace_back(kHeader + size, 0xee);
      uint8_t* bytes = storage_.back().data();
      pieces_.push_back({{bytes, 5}, {bytes + 5, kHeader - 5 + 1}, {bytes + 13, size - 1}});
    }
    for (const auto& pieces : pieces_) frames_.push_back({.buffers = pieces, .result = 0});
  }
  static Frames with(const std::vector<std::vector<uint8_t>>& contents) {
    std::vector<size_t> sizes;
    for (const auto& content : contents) sizes.push_back(content.size());
    Frames frames(sizes);
    for (size_t i = 0; i < contents.size(); ++i) {
      std::ranges::copy(contents[i], frames.storage_[i].begin() + kHeader);
    }
    return frames;
  }

  std::span<NetFrame> all() { return frames_; }
  NetFrame& operator[](size_t index) { return frames_[index]; }
  /// Bytes behind the header, as many as the result says.
  std::vector<uint8_t> content(size_t index) const {
    const auto& bytes = storage_[index];
    return {bytes.begin() + kHeader, bytes.begin() + frames_[index].result};
  }
  std::vector<uint8_t> header(size_t index) const {
    return {storage_[index].begin(), storage_[index].begin() + kHeader};
  }
  void overwrite(uint8_t value) {
    for (auto& bytes : storage_) std::ranges::fill(bytes, value);
  }

 private:
  std::vector<std::vector<uint8_t>> storage_;
  std::vector<std::vector<iovec>> pieces_;
  std::vector<NetFrame> frames_;
};

class StreamBackendTest : public ::testing::Test {
 protected:
  StreamBackendTest() {
    int ends[2];
    check_errno(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), "socketpair");
    peer_ = UniqueFd(ends[1]);
    ::fcntl(peer_.get(), F_SETFL, O_NONBLOCK);
    backend_ = std::make_unique<StreamBackend>(UniqueFd(ends[0]));
    queue_ = backend_->make_queue(0);
  }

  void write_peer(const std::vector<uint8_t>& bytes) {
    ASSERT_EQ(::write(peer_.get(), bytes.data(), bytes.size()), static_cast<ssize_t>(bytes.size()));
  }
  /// At most `limit` bytes of what is there.
  std::vector<uint8_t> read_peer(size_t limit = SIZE_MAX) {
    std::vector<uint8_t> all;
    while (all.size() < limit) {
      std::vector<uint8_t> chunk(std::min<size_t>(limit - all.size(), 65536));
      const ssize_t got = ::read(peer_.get(), chunk.data(), chunk.size());
      if (got <= 0) break;
      all.insert(all.end(), chunk.begin(), chunk.begin() + got);
    }
    return all;
  }
  short poll_for(short events) {
    pollfd wait{.fd = queue_->fd(), .events = events, .revents = 0};
    ::poll(&wait, 1, 0);
    return wait.revents;
  }

  UniqueFd peer_;
  std::unique_ptr<StreamBackend> backend_;
  std::unique_ptr<NetQueue> queue_;
};

TEST_F(StreamBackendTest, SendsFramesWithTheirLengthsAndWithoutHeaders) {
  const auto first = pattern(60, 1);
  const auto second = pattern(1514, 2);
  Frames frames = Frames::with({first, second});
  EXPECT_EQ(queue_->send(frames.all()), 2U);
  EXPECT_EQ(frames[0].result, 72);
  EXPECT_EQ(frames[1].result, 1526);
  auto expected = framed(first);
  const auto rest = framed(second);
  expected.insert(expected.end(), rest.begin(), rest.end());
  EXPECT_EQ(read_peer(), expected);
}

TEST_F(StreamBackendTest, LosesFramesThatAreNone) {
  const auto good = pattern(60, 1);
  Frames frames = Frames::with({pattern(13, 3), good, pattern(65536 + 22, 4)});
  EXPECT_EQ(queue_->send(frames.all()), 3U);
  EXPECT_EQ(frames[0].result, -EMSGSIZE);
  EXPECT_EQ(frames[1].result, 72);
  EXPECT_EQ(frames[2].result, -EMSGSIZE);
  EXPECT_EQ(read_peer(), framed(good));
  const std::vector<iovec> none;
  NetFrame empty{.buffers = none, .result = 0};
  EXPECT_EQ(queue_->send(std::span(&empty, 1)), 1U);
  EXPECT_EQ(empty.result, -EMSGSIZE);
  std::vector<uint8_t> byte(1);
  const std::vector<iovec> crumbs(300, iovec{byte.data(), 1});
  NetFrame crumbled{.buffers = crumbs, .result = 0};
  EXPECT_EQ(queue_->send(std::span(&crumbled, 1)), 1U);
  EXPECT_EQ(crumbled.result, -EMSGSIZE);
}

TEST_F(StreamBackendTest, SendsMoreThanOneCallTakesInOrder) {
  std::vector<std::vector<uint8_t>> contents;
  std::vector<uint8_t> expected;
  for (int i = 0; i < 150; ++i) {
    contents.push_back(pattern(100 + static_cast<size_t>(i), static_cast<uint8_t>(i)));
    const auto bytes = framed(contents.back());
    expected.insert(expected.end(), bytes.begin(), bytes.end());
  }
  Frames frames = Frames::with(contents);
  EXPECT_EQ(queue_->send(frames.all()), 150U);
  EXPECT_EQ(read_peer(), expected);
}

TEST_F(StreamBackendTest, APeerThatDoesNotReadMakesFramesWaitAndLosesNothing) {
  const auto content = pattern(60'001, 9);
  std::vector<uint8_t> arrived;
  size_t sent = 0;
  bool waited = false;
  for (int turn = 0; turn < 200 && sent < 20; ++turn) {
    Frames frames = Frames::with(std::vector(std::min<size_t>(20 - sent, 7), content));
    const size_t taken = queue_->send(frames.all());
    sent += taken;
    // A frame that has been taken goes out as it was then.
    frames.overwrite(0x55);
    if (taken < frames.all().size()) {
      waited = true;
      EXPECT_EQ(poll_for(POLLOUT), 0);
      const auto more = read_peer(50'000);
      arrived.insert(arrived.end(), more.begin(), more.end());
    }
  }
  EXPECT_TRUE(waited);
  EXPECT_EQ(sent, 20U);
  for (int turn = 0; turn < 100; ++turn) {
    const auto more = read_peer();
    arrived.insert(arrived.end(), more.begin(), more.end());
    (void)queue_->send({});
    Frames nudge = Frames::with({pattern(14, 0)});
    if (arrived.size() >= 20 * (content.size() + 4)) break;
    ASSERT_EQ(queue_->send(nudge.all()), 1U);
  }
  const auto one = framed(content);
  ASSERT_GE(arrived.size(), 20 * one.size());
  for (size_t i = 0; i < 20; ++i) {
    ASSERT_EQ(std::memcmp(arrived.data() + i * one.size(), one.data(), one.size()), 0) << i;
  }
}

TEST_F(StreamBackendTest, ReceivesFramesHoweverTheyWereCut) {
  const auto first = pattern(60, 1);
  const auto second = pattern(65535 + 14, 2);
  auto bytes = framed(first);
  const auto more = framed(second);
  bytes.insert(bytes.end(), more.begin(), more.end());
  Frames frames({NetQueue::kMaxFrameSize - kHeader, NetQueue::kMaxFrameSize - kHeader});
  size_t count = 0;
  EXPECT_EQ(queue_->receive(frames.all(), count), NetQueue::State::kWait);
  EXPECT_EQ(count, 0U);
  write_peer({bytes.begin(), bytes.begin() + 2});
  EXPECT_EQ(queue_->receive(frames.all(), count), NetQueue::State::kWait);
  EXPECT_EQ(count, 0U);
  write_peer({bytes.begin() + 2, bytes.begin() + 1000});
  (void)queue_->receive(frames.all(), count);
  ASSERT_EQ(count, 1U);
  EXPECT_EQ(frames[0].result, 72);
  EXPECT_EQ(frames.content(0), first);
  // The driver may be told of checksums and segments: there is nothing to tell. num_buffers is not
  // ours.
  EXPECT_EQ(frames.header(0), (std::vector<uint8_t>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xee, 0xee}));
  write_peer({bytes.begin() + 1000, bytes.end()});
  (void)queue_->receive(frames.all(), count);
  ASSERT_EQ(count, 1U);
  EXPECT_EQ(frames.content(0), second);
}

TEST_F(StreamBackendTest, KeepsWhatThereWasNoRoomFor) {
  std::vector<uint8_t> bytes;
  for (uint8_t i = 0; i < 10; ++i) {
    const auto one = framed(pattern(100, i));
    bytes.insert(bytes.end(), one.begin(), one.end());
  }
  write_peer(bytes);
  for (uint8_t i = 0; i < 10; i += 2) {
    Frames frames({2000, 2000});
    size_t count = 0;
    EXPECT_EQ(queue_->receive(frames.all(), count), NetQueue::State::kReady);
    ASSERT_EQ(count, 2U);
    EXPECT_EQ(frames.content(0), pattern(100, i));
    EXPECT_EQ(frames.content(1), pattern(100, i + 1));
    // A device that is reset in between finds the stream where it was.
    queue_ = backend_->make_queue(0);
  }
}

TEST_F(StreamBackendTest, CutsOffWhatDoesNotFitAndSkipsWhatIsNoFrame) {
  write_peer(framed({}));
  write_peer(framed(pattern(13, 1)));
  write_peer(framed(pattern(500, 2)));
  Frames frames({100});
  size_t count = 0;
  (void)queue_->receive(frames.all(), count);
  ASSERT_EQ(count, 1U);
  EXPECT_EQ(frames[0].result, 112);
  const auto whole = pattern(500, 2);
  EXPECT_EQ(frames.content(0), std::vector<uint8_t>(whole.begin(), whole.begin() + 100));
}

TEST_F(StreamBackendTest, APeerThatBreaksTheFramingIsGone) {
  write_peer(framed(pattern(60, 1)));
  write_peer({0x7f, 0xff, 0xff, 0xff, 1, 2, 3});
  Frames frames({100, 100});
  size_t count = 0;
  EXPECT_EQ(queue_->receive(frames.all(), count), NetQueue::State::kReady);
  EXPECT_EQ(count, 1U);
  EXPECT_EQ(queue_->receive(frames.all(), count), NetQueue::State::kGone);
  EXPECT_EQ(count, 0U);
  Frames out = Frames::with({pattern(60, 1)});
  EXPECT_EQ(queue_->send(out.all()), 1U);
  EXPECT_EQ(out[0].result, -EPIPE);
}

TEST_F(StreamBackendTest, APeerThatEndsIsGoneAfterWhatItSent) {
  write_peer(framed(pattern(60, 1)));
  peer_.reset();
  Frames frames({100});
  size_t count = 0;
  EXPECT_EQ(queue_->receive(frames.all(), count), NetQueue::State::kReady);
  EXPECT_EQ(count, 1U);
  EXPECT_EQ(queue_->receive(frames.all(), count), NetQueue::State::kGone);
  Frames out = Frames::with({pattern(60, 1), pattern(60, 2)});
  EXPECT_EQ(queue_->send(out.all()), 2U);
  EXPECT_EQ(out[1].result, -EPIPE);
}

TEST_F(StreamBackendTest, SendingFindsThatThePeerIsGone) {
  peer_.reset();
  Frames out = Frames::with({pattern(60, 1), pattern(60, 2)});
  EXPECT_EQ(queue_->send(out.all()), 2U);
  EXPECT_EQ(out[0].result, -EPIPE);
  EXPECT_EQ(out[1].result, -EPIPE);
}

TEST(StreamBackend, TakesNothingButAStreamSocket) {
  int ends[2];
  check_errno(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends), "socketpair");
  const UniqueFd other(ends[1]);
  EXPECT_THROW(StreamBackend{UniqueFd(ends[0])}, Error);
}

}  // namespace
}  // namespace tsvmm

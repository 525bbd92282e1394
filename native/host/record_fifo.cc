#include "host/record_fifo.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "core/descriptor_name.h"
#include "core/error.h"

namespace tsvmm {
namespace {

/// A reading end of our own; invalid if the process has no descriptor left, or may not read.
UniqueFd open_reader(const UniqueFd& fifo) {
  return UniqueFd(::open(descriptor_path(fifo.get()).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

/// Takes what is in it, and no more than `most`: somebody may be writing all the time.
std::vector<uint8_t> take_out(const UniqueFd& reader, size_t most) {
  std::vector<uint8_t> all(most);
  size_t size = 0;
  while (size < most) {
    const ssize_t count = ::read(reader.get(), all.data() + size, most - size);
    if (count == 0 || (count < 0 && errno != EINTR)) break;
    if (count > 0) size += static_cast<size_t>(count);
  }
  all.resize(size);
  return all;
}

}  // namespace

std::optional<UniqueFd> RecordFifo::duplicate_if_fifo(int fd) {
  struct stat status {};
  check_errno(::fstat(fd, &status), "examining an output descriptor");
  if (!S_ISFIFO(status.st_mode)) return std::nullopt;
  return UniqueFd::duplicate(fd);
}

RecordFifo::RecordFifo(UniqueFd fifo) : fifo_(std::move(fifo)) {
  // When the last reader leaves, and when a full FIFO has room again.
  loop_.add(fifo_.get(), io::kWritable | io::kEdge, [this](IoEvents /*events*/) { changed(); });
}

void RecordFifo::changed() {
  const std::lock_guard lock(mutex_);
  // There is nobody to tell: the next write() fails as well, and is heard of.
  (void)attempt([this] { settle_locked(); });
}

size_t RecordFifo::write(std::span<const uint8_t> bytes) {
  const std::lock_guard lock(mutex_);
  settle_locked();
  const size_t taken = is_waiting_locked() ? 0 : push_locked(bytes);
  if (taken == 0) return 0;
  if (!is_open_) records_.emplace_back();
  records_.back().insert(records_.back().end(), bytes.begin(),
                         bytes.begin() + static_cast<ptrdiff_t>(taken));
  given_ += taken;
  is_open_ = taken < bytes.size();
  return taken;
}

void RecordFifo::settle_locked() {
  // Once: a reader may take a whole record and leave at any moment.
  const size_t left = unread();
  forget_read_locked(left);
  if (given_ > left && !has_reader()) take_back_locked();
  push_waiting_locked();
}

/// All given bytes but so many.
void RecordFifo::forget_read_locked(size_t left) {
  size_t read = given_ - std::min(given_, left);
  while (!records_.empty() && records_.front().size() <= read) {
    // Of this one, the reader is to get the rest.
    if (is_open_ && records_.size() == 1) return;
    read -= records_.front().size();
    given_ -= records_.front().size();
    records_.pop_front();
  }
}

/// What was given stays where it is.
void RecordFifo::forget_given_locked() {
  forget_read_locked(0);
  if (!records_.empty()) {
    Record& first = records_.front();
    first.erase(first.begin(), first.begin() + static_cast<ptrdiff_t>(given_));
  }
  given_ = 0;
}

/// The reader has left in the middle of a record: everything is given once more, from the start of
/// that record on.
void RecordFifo::take_back_locked() {
  const UniqueFd reader = open_reader(fifo_);
  if (!reader.valid()) return;
  const std::vector<uint8_t> left = take_out(reader, capacity());
  if (!ends_given_locked(left)) {
    forget_given_locked();
    // Not all of it if they have written meanwhile.
    (void)push_locked(left);
    return;
  }
  // It may have come to the end of the record before it left.
  forget_read_locked(left.size());
  given_ = 0;
}

/// Whether that is what a reader has left of what was given, and nothing of others'.
bool RecordFifo::ends_given_locked(std::span<const uint8_t> bytes) const {
  std::vector<uint8_t> given;
  for (const Record& record : records_) given.insert(given.end(), record.begin(), record.end());
  given.resize(given_);
  return bytes.size() <= given.size() && std::equal(bytes.rbegin(), bytes.rend(), given.rbegin());
}

/// Gives what a FIFO had no room for after take_back_locked().
void RecordFifo::push_waiting_locked() {
  size_t begin = 0;
  for (const Record& record : records_) {
    const size_t done = std::min(given_ - begin, record.size());
    const size_t taken = push_locked(std::span(record).subspan(done));
    given_ += taken;
    if (done + taken < record.size()) return;
    begin += record.size();
  }
}

bool RecordFifo::is_waiting_locked() const {
  size_t all = 0;
  for (const Record& record : records_) all += record.size();
  return given_ < all;
}

size_t RecordFifo::push_locked(std::span<const uint8_t> bytes) {
  // A FIFO without a reader takes nothing.
  UniqueFd reader;
  size_t taken = 0;
  while (taken < bytes.size()) {
    const ssize_t count = ::write(fifo_.get(), bytes.data() + taken, bytes.size() - taken);
    if (count > 0) {
      taken += static_cast<size_t>(count);
    } else if (count < 0 && errno == EPIPE && !reader.valid()) {
      // Else it would be told of this one's coming and going for ever.
      if (!has_room()) break;
      reader = open_reader(fifo_);
      if (!reader.valid()) break;
    } else if (count == 0 || errno == EAGAIN || (taken != 0 && errno != EINTR)) {
      break;  // What was taken has to be known; an error comes again.
    } else if (errno != EINTR) {
      check_errno(-1, "writing");
    }
  }
  return taken;
}

bool RecordFifo::has_room() const {
  pollfd writer{.fd = fifo_.get(), .events = POLLOUT, .revents = 0};
  return ::poll(&writer, 1, 0) == 1 && (writer.revents & POLLOUT) != 0;
}

bool RecordFifo::has_reader() const {
  pollfd writer{.fd = fifo_.get(), .events = 0, .revents = 0};
  return ::poll(&writer, 1, 0) == 0 || (writer.revents & POLLERR) == 0;
}

size_t RecordFifo::unread() const {
  int count = 0;
  check_errno(::ioctl(fifo_.get(), FIONREAD, &count), "examining a FIFO");
  return static_cast<size_t>(count);
}

size_t RecordFifo::capacity() const {
  return static_cast<size_t>(check_errno(::fcntl(fifo_.get(), F_GETPIPE_SZ), "examining a FIFO"));
}

}  // namespace tsvmm

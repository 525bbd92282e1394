#include "host/stream_server.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/monotonic.h"
#include "host/unix_client.h"

namespace tsvmm {
namespace {

/// Connections that are accepted before those that are there get their turn.
constexpr int kAcceptsPerTurn = 32;
constexpr size_t kBytesPerRead = size_t{16} << 10;

UniqueFd open_spare() { return UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

bool listens(int fd) {
  int value = 0;
  socklen_t length = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &value, &length) == 0 && value != 0;
}

std::vector<UniqueFd> received_descriptors(msghdr& message) {
  std::vector<UniqueFd> descriptors;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr;
       header = CMSG_NXTHDR(&message, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const size_t count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(header) + i * sizeof fd, sizeof fd);
      descriptors.emplace_back(fd);
    }
  }
  return descriptors;
}

}  // namespace

StreamServer::StreamServer(Sink& sink, std::string thread_name)
    : sink_(sink), spare_(open_spare()), loop_(std::move(thread_name)) {}

StreamServer::~StreamServer() { stop(); }

void StreamServer::listen(UniqueFd listener, size_t max_connections) {
  if (!listens(listener.get())) {
    throw Error("ERR_TSVMM_NO_LISTENER", "the descriptor is not a socket that listens");
  }
  const int flags = check_errno(::fcntl(listener.get(), F_GETFL), "fcntl");
  check_errno(::fcntl(listener.get(), F_SETFL, flags | O_NONBLOCK), "fcntl");
  const std::lock_guard lock(mutex_);
  if (listener_.valid()) throw Error("EBUSY", "the server listens already");
  listener_ = std::move(listener);
  max_connections_ = max_connections;
  full_ = false;
  loop_.add(listener_.get(), io::kReadable, [this](IoEvents) { accept_some(); });
}

StreamServer::ConnectionId StreamServer::adopt(UniqueFd fd) {
  const std::lock_guard lock(mutex_);
  const std::optional<ConnectionId> id = add_locked(std::move(fd));
  if (!id) throw Error("ENOSPC", "the connection cannot be waited for");
  return *id;
}

void StreamServer::accept_some() {
  const std::lock_guard lock(mutex_);
  for (int i = 0; i < kAcceptsPerTurn && listener_.valid(); ++i) {
    if (connections_.size() >= max_connections_) break;
    const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) {
      if (const auto id = add_locked(UniqueFd(fd))) sink_.opened(*id);
    } else if (errno == EMFILE || errno == ENFILE) {
      accept_and_refuse();
    } else if (errno != ECONNABORTED && errno != EINTR) {
      break;
    }
  }
  watch_listener_locked();
}

void StreamServer::watch_listener_locked() {
  const bool full = connections_.size() >= max_connections_;
  if (!listener_.valid() || full == full_) return;
  full_ = full;
  loop_.modify(listener_.get(), full ? 0 : io::kReadable);
}

void StreamServer::accept_and_refuse() {
  // Left in the queue, it would wake the thread without end.
  spare_.reset();
  UniqueFd(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)).reset();
  spare_ = open_spare();
}

std::optional<StreamServer::ConnectionId> StreamServer::add_locked(UniqueFd fd) {
  const ConnectionId id = next_id_++;
  auto connection = std::make_unique<Connection>();
  connection->fd = std::move(fd);
  connection->events = io::kReadable;
  connection->last_active = monotonic_ns();
  try {
    const bool watched = loop_.add(connection->fd.get(), io::kReadable,
                                   [this, id](IoEvents events) { serve(id, events); });
    if (!watched) return std::nullopt;
  } catch (const Error&) {
    return std::nullopt;  // The host's limit of watches: the connection is closed.
  }
  connections_.emplace(id, std::move(connection));
  return id;
}

void StreamServer::serve(ConnectionId id, IoEvents events) {
  const std::lock_guard lock(mutex_);
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  Connection& connection = *found->second;
  const bool waited = !connection.output.empty();
  const bool answering = !connection.resting;
  flush_locked(connection);
  // A peer that has closed cannot be waited for: the loop would be told so without end. What it
  // sent before that is still there.
  const bool leaves = (events & (io::kHangUp | io::kError)) != 0 && connection.watched;
  if (leaves) {
    loop_.remove(connection.fd.get());
    connection.watched = false;
  }
  receive_locked(id, connection);
  if (waited && connection.output.empty() && !connection.ending) sink_.drained(id);
  // Else who takes the last of it learns that.
  if (leaves && (answering || !connection.gone) && !connection.ending) sink_.gone(id);
  watch_locked(id, connection);
}

void StreamServer::receive_locked(ConnectionId id, Connection& connection) {
  if (connection.ending) return;
  while (!connection.ended && !connection.gone && connection.input_size < kMaxUntaken &&
         receive_once_locked(connection)) {
  }
  if (connection.ended && !connection.watched) connection.gone = true;
  answer_remembered_locked(connection);
  tell_locked(id, connection);
}

bool StreamServer::receive_once_locked(Connection& connection) {
  std::array<uint8_t, kBytesPerRead> bytes;
  alignas(cmsghdr) std::array<char, CMSG_SPACE(kMaxMessageDescriptors * sizeof(int))> control;
  iovec vector{.iov_base = bytes.data(),
               .iov_len = std::min(bytes.size(), kMaxUntaken - connection.input_size)};
  msghdr message{};
  message.msg_iov = &vector;
  message.msg_iovlen = 1;
  message.msg_control = control.data();
  message.msg_controllen = control.size();
  const ssize_t count = ::recvmsg(connection.fd.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  if (count < 0) {
    if (errno == EINTR) return true;
    if (errno != EAGAIN) connection.gone = connection.ended = true;
    return false;
  }
  std::vector<UniqueFd> descriptors = received_descriptors(message);
  connection.input_descriptors += descriptors.size();
  if (connection.input_descriptors > kMaxDescriptors) {
    connection.input.clear();
    connection.gone = connection.ended = true;
    return false;
  }
  if (count == 0) {
    connection.ended = true;
    return false;
  }
  connection.last_active = monotonic_ns();
  // The kernel joins a message that carries descriptors to those before it, and to none behind.
  if (connection.input.empty() || !connection.input.back().descriptors.empty()) {
    connection.input.emplace_back();
  }
  Segment& segment = connection.input.back();
  segment.bytes.insert(segment.bytes.end(), bytes.begin(), bytes.begin() + count);
  segment.descriptors = std::move(descriptors);
  connection.input_size += static_cast<size_t>(count);
  // Less than there was room for: that was all, or the kernel stopped behind descriptors.
  return static_cast<size_t>(count) == vector.iov_len || !segment.descriptors.empty();
}

void StreamServer::answer_remembered_locked(Connection& connection) {
  if (!connection.resting || connection.told || connection.input.empty()) return;
  Segment& segment = connection.input.front();
  if (!segment.descriptors.empty()) return;
  size_t done = 0;
  while (done < segment.bytes.size() && connection.output.empty()) {
    const std::span<const uint8_t> rest = std::span(segment.bytes).subspan(done);
    const auto known = std::ranges::find_if(remembered_, [&](const Remembered& one) {
      return one.request.size() <= rest.size() &&
             std::memcmp(one.request.data(), rest.data(), one.request.size()) == 0;
    });
    if (known == remembered_.end() || !send_remembered_locked(connection, *known)) break;
    done += known->request.size();
  }
  connection.input_size -= done;
  if (done == segment.bytes.size()) {
    connection.input.pop_front();
  } else {
    segment.bytes.erase(segment.bytes.begin(),
                        segment.bytes.begin() + static_cast<ptrdiff_t>(done));
  }
}

bool StreamServer::send_remembered_locked(Connection& connection, const Remembered& known) {
  if (!known.make) {
    send_locked(connection, known.answer);
    return true;
  }
  std::vector<uint8_t> answer;
  if (!known.make(answer)) return false;
  send_locked(connection, answer);
  return true;
}

void StreamServer::tell_locked(ConnectionId id, Connection& connection) {
  const bool unread = connection.resting && !connection.output.empty();
  const bool news = !connection.input.empty() || connection.ended || connection.gone || unread;
  if (connection.told || connection.ending || !news) return;
  connection.told = true;
  connection.resting = false;
  sink_.received(id);
}

StreamServer::Received StreamServer::take(ConnectionId id) {
  const std::lock_guard lock(mutex_);
  Received received;
  const auto found = connections_.find(id);
  if (found == connections_.end()) {
    received.ended = received.gone = true;
    return received;
  }
  Connection& connection = *found->second;
  if (!connection.input.empty()) {
    received.segment = std::move(connection.input.front());
    connection.input.pop_front();
    connection.input_size -= received.segment.bytes.size();
    connection.input_descriptors -= received.segment.descriptors.size();
  }
  received.more = !connection.input.empty();
  received.ended = connection.ended && !received.more;
  received.gone = connection.gone;
  if (received.more) return received;
  connection.told = false;
  // Of a peer that has closed, and is not watched, there may be more.
  if (!connection.watched && !connection.ended) {
    loop_.post([this, id] { serve(id, io::kReadable); });
  }
  watch_locked(id, connection);
  return received;
}

StreamServer::Written StreamServer::write(ConnectionId id, std::span<const uint8_t> bytes) {
  const std::lock_guard lock(mutex_);
  const auto found = connections_.find(id);
  if (found == connections_.end()) return Written::kLost;
  Connection& connection = *found->second;
  send_locked(connection, bytes);
  if (connection.gone) tell_locked(id, connection);
  watch_locked(id, connection);
  if (connection.gone) return Written::kLost;
  return connection.output.empty() ? Written::kLeft : Written::kWaiting;
}

void StreamServer::send_locked(Connection& connection, std::span<const uint8_t> bytes) {
  if (connection.gone) return;
  if (connection.output.empty()) {
    const ssize_t count =
        ::send(connection.fd.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
      connection.gone = true;
      return;
    }
    bytes = bytes.subspan(count < 0 ? 0 : static_cast<size_t>(count));
  }
  if (!bytes.empty()) connection.output.emplace_back(bytes.begin(), bytes.end());
}

void StreamServer::flush_locked(Connection& connection) {
  while (!connection.output.empty() && !connection.gone) {
    const auto& first = connection.output.front();
    const ssize_t count =
        ::send(connection.fd.get(), first.data() + connection.output_done,
               first.size() - connection.output_done, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN && errno != ENOBUFS) connection.gone = true;
      break;
    }
    connection.output_done += static_cast<size_t>(count);
    if (connection.output_done < first.size()) continue;
    connection.output.pop_front();
    connection.output_done = 0;
  }
  if (connection.gone) connection.output.clear();
}

void StreamServer::watch_locked(ConnectionId id, Connection& connection) {
  if (connection.gone) connection.output.clear();
  // Nobody waits for the rest, or nobody is there to get it.
  if (connection.ending && connection.output.empty()) return close_later_locked(id);
  if (!connection.watched) return;
  uint32_t events = 0;
  if (!connection.ending && !connection.ended && connection.input_size < kMaxUntaken)
    events |= io::kReadable;
  if (!connection.output.empty()) events |= io::kWritable;
  if (events == connection.events) return;
  connection.events = events;
  loop_.modify(connection.fd.get(), events);
}

bool StreamServer::rest(ConnectionId id) {
  const std::lock_guard lock(mutex_);
  const auto found = connections_.find(id);
  if (found == connections_.end()) return true;
  Connection& connection = *found->second;
  if (!connection.output.empty()) return false;
  if (!connection.told) connection.resting = true;
  return true;
}

void StreamServer::end(ConnectionId id) {
  const std::lock_guard lock(mutex_);
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  found->second->ending = true;
  watch_locked(id, *found->second);
}

void StreamServer::abort(ConnectionId id) {
  const std::lock_guard lock(mutex_);
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  found->second->ending = found->second->gone = true;
  watch_locked(id, *found->second);
}

std::optional<StreamServer::ConnectionId> StreamServer::longest_idle() {
  const std::lock_guard lock(mutex_);
  std::optional<ConnectionId> longest;
  uint64_t since = UINT64_MAX;
  for (const auto& [id, connection] : connections_) {
    const bool idle = connection->resting && !connection->told && !connection->ending &&
                      connection->output.empty();
    if (!idle || connection->last_active >= since) continue;
    longest = id;
    since = connection->last_active;
  }
  return longest;
}

void StreamServer::close_later_locked(ConnectionId id) {
  loop_.post([this, id] { close(id); });
}

void StreamServer::close(ConnectionId id) {
  const std::lock_guard lock(mutex_);
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  if (found->second->watched) loop_.remove(found->second->fd.get());
  connections_.erase(found);
  sink_.closed(id);
  watch_listener_locked();
}

void StreamServer::remember(std::span<const uint8_t> request, std::span<const uint8_t> answer) {
  remember({.request = {request.begin(), request.end()},
            .answer = {answer.begin(), answer.end()},
            .make = {}});
}

void StreamServer::remember(std::span<const uint8_t> request, MakeAnswer make) {
  remember({.request = {request.begin(), request.end()}, .answer = {}, .make = std::move(make)});
}

void StreamServer::remember(Remembered one) {
  if (one.request.empty()) return;
  Remembered before;  // Destroyed without the lock.
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find(remembered_, one.request, &Remembered::request);
  if (found != remembered_.end()) {
    before = std::exchange(*found, std::move(one));
    return;
  }
  if (remembered_.size() >= kMaxRemembered) {
    before = std::move(remembered_.front());
    remembered_.pop_front();
  }
  remembered_.push_back(std::move(one));
}

void StreamServer::forget(std::span<const uint8_t> request) {
  Remembered before;
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(
      remembered_, [&](const Remembered& one) { return std::ranges::equal(one.request, request); });
  if (found == remembered_.end()) return;
  before = std::move(*found);
  remembered_.erase(found);
}

void StreamServer::stop_listening() {
  UniqueFd listener;
  {
    const std::lock_guard lock(mutex_);
    listener = std::move(listener_);
  }
  if (listener.valid()) loop_.remove(listener.get());
}

void StreamServer::stop() {
  loop_.stop();
  std::deque<Remembered> remembered;  // Destroyed without the lock.
  const std::lock_guard lock(mutex_);
  listener_.reset();
  connections_.clear();
  remembered.swap(remembered_);
}

}  // namespace tsvmm

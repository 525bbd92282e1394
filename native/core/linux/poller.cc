#include "core/poller.h"

#include <sys/epoll.h>

#include <array>
#include <cerrno>
#include <utility>

#include "core/error.h"

namespace tsvmm {
namespace {

constexpr std::array<std::pair<IoEvents, uint32_t>, 7> kBits{{
    {io::kReadable, EPOLLIN},
    {io::kWritable, EPOLLOUT},
    {io::kPeerClosed, EPOLLRDHUP},
    {io::kHangUp, EPOLLHUP},
    {io::kError, EPOLLERR},
    {io::kEdge, EPOLLET},
    {io::kOnce, EPOLLONESHOT},
}};

constexpr uint32_t to_epoll(IoEvents events) {
  uint32_t result = 0;
  for (const auto& [ours, epoll] : kBits) result |= (events & ours) != 0 ? epoll : 0;
  return result;
}

constexpr IoEvents from_epoll(uint32_t events) {
  IoEvents result = 0;
  for (const auto& [ours, epoll] : kBits) result |= (events & epoll) != 0 ? ours : 0;
  return result;
}

}  // namespace

Poller::Poller() : fd_(check_errno(::epoll_create1(EPOLL_CLOEXEC), "epoll_create1")) {}

int Poller::add(int fd, IoEvents events, uint64_t tag) noexcept {
  epoll_event event{.events = to_epoll(events), .data = {.u64 = tag}};
  return ::epoll_ctl(fd_.get(), EPOLL_CTL_ADD, fd, &event) == 0 ? 0 : errno;
}

void Poller::modify(int fd, IoEvents events, uint64_t tag) noexcept {
  epoll_event event{.events = to_epoll(events), .data = {.u64 = tag}};
  ::epoll_ctl(fd_.get(), EPOLL_CTL_MOD, fd, &event);
}

void Poller::remove(int fd) noexcept { ::epoll_ctl(fd_.get(), EPOLL_CTL_DEL, fd, nullptr); }

std::span<const Poller::Event> Poller::wait(std::span<Event, kMaxEvents> into) noexcept {
  return collect(into, -1);
}

std::span<const Poller::Event> Poller::look(std::span<Event, kMaxEvents> into) noexcept {
  return collect(into, 0);
}

std::span<const Poller::Event> Poller::collect(std::span<Event, kMaxEvents> into,
                                               int milliseconds) noexcept {
  std::array<epoll_event, kMaxEvents> found;
  int count;
  // Completions of an io_uring interrupt it, and are an event of the ring the next time.
  do {
    count = ::epoll_wait(fd_.get(), found.data(), kMaxEvents, milliseconds);
  } while (count < 0 && errno == EINTR);
  for (int i = 0; i < count; ++i) {
    into[i] = {.tag = found[i].data.u64, .events = from_epoll(found[i].events)};
  }
  return into.first(count > 0 ? static_cast<size_t>(count) : 0);
}

}  // namespace tsvmm

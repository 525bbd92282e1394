#include "memory/lost_pages.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "core/error.h"

namespace tsvmm {
namespace {

constexpr uint64_t kPage = 4096;
constexpr uint64_t kHugePage = 2U << 20;
/// Mappings in one process; a machine has room for some thirty devices.
constexpr size_t kMaxMappings = 1024;
/// Other vCPUs may have been on their way to what the first one had replaced.
constexpr unsigned kMaxVain = 1024;

/// What the handler may look at: nothing but this.
struct Slot {
  std::atomic<uintptr_t> begin = 0;  ///< 0: free
  std::atomic<uintptr_t> end = 0;
  std::atomic<int> event_fd = -1;
  std::atomic<bool> lost = false;
};
std::array<Slot, kMaxMappings> slots;

std::mutex installation;
size_t installed_for = 0;  ///< mappings
struct sigaction earlier {};

bool put_memory(void* place, size_t size) noexcept {
  return ::mmap(place, size, PROT_READ | PROT_WRITE,
                MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

void tell(Slot& slot) noexcept {
  slot.lost.store(true, std::memory_order_release);
  const uint64_t one = 1;
  (void)!::write(slot.event_fd.load(std::memory_order_relaxed), &one, sizeof one);
}

/// A page, or a huge one if the mapping has no smaller ones.
bool replace_page(const Slot& slot, uintptr_t address) noexcept {
  for (const uint64_t size : {kPage, kHugePage}) {
    const uintptr_t place = address & ~(size - 1);
    if (place < slot.begin || place + size > slot.end) return false;
    if (put_memory(reinterpret_cast<void*>(place), size)) return true;
  }
  return false;
}

bool replace_lost_page(uintptr_t address) noexcept {
  for (Slot& slot : slots) {
    const uintptr_t begin = slot.begin.load(std::memory_order_acquire);
    if (begin == 0 || address < begin || address >= slot.end) continue;
    if (!replace_page(slot, address)) return false;
    tell(slot);
    return true;
  }
  return false;
}

/// As if we were not there.
void pass_on(int signal, siginfo_t* info, void* context) noexcept {
  if ((earlier.sa_flags & SA_SIGINFO) != 0) {
    earlier.sa_sigaction(signal, info, context);
  } else if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) {
    earlier.sa_handler(signal);
  } else if (earlier.sa_handler == SIG_DFL || info->si_code > 0) {
    // The access, or the signal that somebody sent, ends the process when it is repeated.
    struct sigaction standard {};
    standard.sa_handler = SIG_DFL;
    ::sigaction(signal, &standard, nullptr);
    if (info->si_code <= 0) ::raise(signal);
  }
}

void on_bus_error(int signal, siginfo_t* info, void* context) noexcept {
  const int error = errno;
  const bool is_access = info->si_code > 0;
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  if (!is_access || !replace_lost_page(address)) pass_on(signal, info, context);
  errno = error;
}

bool is_ours(const struct sigaction& action) {
  return (action.sa_flags & SA_SIGINFO) != 0 && action.sa_sigaction == &on_bus_error;
}

void install() {
  const std::lock_guard lock(installation);
  if (installed_for++ != 0) return;
  struct sigaction action {};
  action.sa_sigaction = &on_bus_error;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
  ::sigaction(SIGBUS, &action, &earlier);
}

void uninstall() noexcept {
  const std::lock_guard lock(installation);
  if (--installed_for != 0) return;
  struct sigaction now {};
  // Somebody who came later keeps what is theirs.
  if (::sigaction(SIGBUS, nullptr, &now) == 0 && is_ours(now)) {
    ::sigaction(SIGBUS, &earlier, nullptr);
  }
}

size_t take_slot(uintptr_t begin, uintptr_t end, int event_fd) {
  const std::lock_guard lock(installation);
  for (size_t i = 0; i < slots.size(); ++i) {
    Slot& slot = slots.at(i);
    if (slot.begin != 0) continue;
    slot.end = end;
    slot.event_fd = event_fd;
    slot.lost = false;
    slot.begin.store(begin, std::memory_order_release);
    return i;
  }
  throw Error("ENFILE", "too much persistent memory in one process");
}

}  // namespace

LostPages::LostPages(uint8_t* host, uint64_t size, int fd) : host_(host), fd_(fd), file_end_(size) {
  const auto begin = reinterpret_cast<uintptr_t>(host);
  slot_ = take_slot(begin, begin + size, event_.fd());
  install();
}

LostPages::~LostPages() {
  slots.at(slot_).begin.store(0, std::memory_order_release);
  uninstall();
}

bool LostPages::any() const noexcept {
  return slots.at(slot_).lost.load(std::memory_order_acquire);
}

bool LostPages::replace() noexcept {
  const std::lock_guard lock(mutex_);
  const bool beyond = replace_beyond_end();
  const bool holes = replace_holes();
  if (beyond || holes) return true;
  return any() && ++vain_ <= kMaxVain;
}

bool LostPages::replace_beyond_end() noexcept {
  struct stat status {};
  if (::fstat(fd_, &status) != 0 || !S_ISREG(status.st_mode)) return false;
  const uint64_t end = (static_cast<uint64_t>(status.st_size) + kPage - 1) & ~(kPage - 1);
  if (end >= file_end_) return false;
  if (!replace_range(end, file_end_)) return false;
  file_end_ = end;
  return true;
}

/// Holes that the file system has no room for; where it has room by now, they get it. Once, as what
/// was given room and never written looks like a hole still.
bool LostPages::replace_holes() noexcept {
  if (std::exchange(holes_done_, true)) return false;
  bool any = false;
  const auto limit = static_cast<off_t>(file_end_);
  for (off_t at = 0; at < limit;) {
    const off_t hole = ::lseek(fd_, at, SEEK_HOLE);
    if (hole < 0 || hole >= limit) break;
    const off_t data = ::lseek(fd_, hole, SEEK_DATA);
    const off_t end = data < 0 || data > limit ? limit : data;
    if (::fallocate(fd_, FALLOC_FL_KEEP_SIZE, hole, end - hole) == 0) {
      any = true;
    } else {
      const auto page = static_cast<off_t>(kPage);
      any |= replace_range(static_cast<uint64_t>((hole + page - 1) & ~(page - 1)),
                           static_cast<uint64_t>(end & ~(page - 1)));
    }
    at = end;
  }
  return any;
}

bool LostPages::replace_range(uint64_t begin, uint64_t end) noexcept {
  if (begin >= end || !put_memory(host_ + begin, end - begin)) return false;
  tell(slots.at(slot_));
  return true;
}

}  // namespace tsvmm

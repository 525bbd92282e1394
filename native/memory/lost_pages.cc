#include "memory/lost_pages.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "core/error.h"
#include "core/signal_actions.h"
#include "memory/page_size.h"

namespace tsvmm {
namespace {

/// Mappings in one process; a machine has room for some thirty devices.
constexpr size_t kMaxMappings = 1024;
/// Holes that are replaced one by one.
constexpr int kMaxPieces = 1024;
/// Calls that find nothing to replace: other vCPUs may have failed on pages that the first one has
/// replaced since.
constexpr unsigned kMaxIdleCalls = 1024;
/// A file system with more than this left was not full a moment ago.
constexpr uint64_t kRoom = 16U << 20;

/// What the handler may look at: nothing but this.
struct Slot {
  std::atomic<uintptr_t> begin = 0;  ///< 0: free
  std::atomic<uintptr_t> end = 0;
  std::atomic<bool> lost = false;
  std::atomic_flag busy;    ///< guards what follows, and all that is replaced
  uintptr_t file_end = 0;   ///< in the mapping: what lies behind was replaced
  uint64_t offset = 0;      ///< of the mapping in the file
  bool holes_done = false;  ///< or it is not to be
  int fd = -1;
  int event_fd = -1;

  [[nodiscard]] bool contains(uintptr_t address) const noexcept {
    const uintptr_t first = begin.load(std::memory_order_acquire);
    return first != 0 && address >= first && address < end.load(std::memory_order_relaxed);
  }
};
std::array<Slot, kMaxMappings> slots;

/// A lock that a signal handler can take: its holder touches no mapping, and so gets no signal.
class SlotLock {
 public:
  explicit SlotLock(Slot& slot) noexcept : slot_(slot) {
    while (slot_.busy.test_and_set(std::memory_order_acquire)) ::sched_yield();
  }
  ~SlotLock() { slot_.busy.clear(std::memory_order_release); }
  SlotLock(const SlotLock&) = delete;
  SlotLock& operator=(const SlotLock&) = delete;

 private:
  Slot& slot_;
};

std::mutex installation;
size_t installed_for = 0;  ///< mappings
struct sigaction earlier {};

bool put_memory(void* place, size_t size) noexcept {
  return ::mmap(place, size, PROT_READ | PROT_WRITE,
                MAP_FIXED | MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0) != MAP_FAILED;
}

void tell(const Slot& slot) noexcept {
  const uint64_t one = 1;
  (void)!::write(slot.event_fd, &one, sizeof one);
}

bool replace_range(Slot& slot, uintptr_t begin, uintptr_t end) noexcept {
  if (begin >= end || !put_memory(reinterpret_cast<void*>(begin), end - begin)) return false;
  slot.lost.store(true, std::memory_order_release);
  tell(slot);
  return true;
}

/// In one piece, as a process has only so many mappings, and once, as others write to it
/// afterwards.
bool replace_beyond_end(Slot& slot) noexcept {
  struct stat status {};
  if (::fstat(slot.fd, &status) != 0 || !S_ISREG(status.st_mode)) return false;
  const uint64_t whole =
      (static_cast<uint64_t>(status.st_size) + kHostPageSize - 1) & ~(kHostPageSize - 1);
  const uint64_t size = whole - std::min(whole, slot.offset);
  if (size >= slot.file_end - slot.begin) return false;
  const uintptr_t end = slot.begin + size;
  if (!replace_range(slot, end, slot.file_end)) return false;
  slot.file_end = end;
  return true;
}

/// Whether holes in the file are not the problem: one page can be allocated, and the file system
/// has room for more. Checking must not use up all of that room.
bool has_room(const Slot& slot) noexcept {
  const auto offset = static_cast<off_t>(slot.offset);
  const off_t hole = ::lseek(slot.fd, offset, SEEK_HOLE);
  if (hole < 0 || hole >= offset + static_cast<off_t>(slot.file_end - slot.begin)) return false;
  struct statfs system {};
  if (::fstatfs(slot.fd, &system) != 0) return false;
  // Without blocks it has no end of its own: memory of the kernel's.
  const bool is_large =
      system.f_blocks == 0 || system.f_bavail > kRoom / static_cast<uint64_t>(system.f_bsize);
  return is_large && ::fallocate(slot.fd, FALLOC_FL_KEEP_SIZE, hole, 1) == 0;
}

/// Holes that the file system has no room for; where it has room by now, they get it. Once, as what
/// was given room and never written looks like a hole still.
bool replace_holes(Slot& slot) noexcept {
  if (std::exchange(slot.holes_done, true)) return false;
  constexpr auto kMask = static_cast<off_t>(kHostPageSize - 1);
  const uintptr_t begin = slot.begin;
  const auto offset = static_cast<off_t>(slot.offset);
  const auto limit = offset + static_cast<off_t>(slot.file_end - begin);
  bool any = false;
  int pieces = 0;
  for (off_t at = offset; at < limit;) {
    const off_t hole = ::lseek(slot.fd, at, SEEK_HOLE);
    if (hole < 0 || hole >= limit) break;
    const off_t data = ::lseek(slot.fd, hole, SEEK_DATA);
    off_t end = data < 0 || data > limit ? limit : data;
    if (::fallocate(slot.fd, FALLOC_FL_KEEP_SIZE, hole, end - hole) == 0) {
      any = true;
    } else {
      // The number of mappings of a process is limited: behind kMaxPieces holes all is replaced.
      if (++pieces == kMaxPieces) end = limit;
      any |= replace_range(slot, begin + static_cast<uint64_t>(((hole + kMask) & ~kMask) - offset),
                           begin + static_cast<uint64_t>((end & ~kMask) - offset));
    }
    at = end;
  }
  return any;
}

/// A page, or a huge one if the mapping has no smaller ones.
bool replace_page(Slot& slot, uintptr_t address) noexcept {
  for (const uint64_t size : {kHostPageSize, kHostHugePageSize}) {
    const uintptr_t place = address & ~(size - 1);
    if (place < slot.begin || place + size > slot.end) return false;
    if (replace_range(slot, place, place + size)) return true;
  }
  return false;
}

/// Whether a page that was not there is by now: another thread may have been quicker, or the file
/// system has room again. Kernels before 5.14 cannot tell: for them that is `otherwise`.
bool is_there(uintptr_t address, bool otherwise) noexcept {
  void* const page = reinterpret_cast<void*>(address & ~(kHostPageSize - 1));
  return ::madvise(page, kHostPageSize, MADV_POPULATE_WRITE) == 0 || (errno == EINVAL && otherwise);
}

bool replace_lost_page(Slot& slot, uintptr_t address, bool is_missing) noexcept {
  const SlotLock lock(slot);
  if (!slot.contains(address)) return false;
  if (is_missing) {
    (void)replace_beyond_end(slot);
    // What was replaced may have got the file's mapping again since (memory that is handed out).
    if (is_there(address, address >= slot.file_end)) return true;
    (void)replace_holes(slot);
    if (is_there(address, false)) return true;
  }
  return replace_page(slot, address);
}

/// `is_missing`: nothing is behind the page. Otherwise it is damaged.
bool replace_lost_page(uintptr_t address, bool is_missing) noexcept {
  return std::ranges::any_of(slots, [=](Slot& slot) {
    return slot.contains(address) && replace_lost_page(slot, address, is_missing);
  });
}

/// As if we were not there.
void pass_on(int signal, siginfo_t* info, void* context) noexcept {
  if ((earlier.sa_flags & SA_SIGINFO) != 0) {
    earlier.sa_sigaction(signal, info, context);
  } else if (earlier.sa_handler != SIG_DFL && earlier.sa_handler != SIG_IGN) {
    earlier.sa_handler(signal);
  } else if (earlier.sa_handler == SIG_DFL || info->si_code > 0) {
    // The access, or the signal that somebody sent, ends the process when it is repeated.
    if (const auto before = before_ending_signal.load()) before();
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
  if (!is_access || !replace_lost_page(address, info->si_code == BUS_ADRERR)) {
    pass_on(signal, info, context);
  }
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
  struct sigaction before {};
  const std::lock_guard changing(signal_actions);
  ::sigaction(SIGBUS, &action, &before);
  // Ours, if somebody who came later has left it behind by now: `earlier` is as it was then.
  if (!is_ours(before)) earlier = before;
}

void uninstall() noexcept {
  const std::lock_guard lock(installation);
  if (--installed_for != 0) return;
  const std::lock_guard changing(signal_actions);
  struct sigaction now {};
  // Somebody who came later keeps what is theirs.
  if (::sigaction(SIGBUS, nullptr, &now) == 0 && is_ours(now)) {
    ::sigaction(SIGBUS, &earlier, nullptr);
  }
}

size_t take_slot(uintptr_t begin, uintptr_t end, int fd, uint64_t offset, int event_fd,
                 LostPages::Holes holes) {
  const std::lock_guard lock(installation);
  for (size_t i = 0; i < slots.size(); ++i) {
    Slot& slot = slots.at(i);
    if (slot.begin != 0) continue;
    const SlotLock taking(slot);
    slot.end = end;
    slot.file_end = end;
    slot.holes_done = holes == LostPages::Holes::kOneByOne;
    slot.fd = fd;
    slot.offset = offset;
    slot.event_fd = event_fd;
    slot.lost = false;
    slot.begin.store(begin, std::memory_order_release);
    return i;
  }
  throw Error("ENFILE", "too many files are mapped for guests in one process");
}

}  // namespace

LostPages::LostPages(uint8_t* host, uint64_t size, int fd, uint64_t offset, Holes holes) {
  const auto begin = reinterpret_cast<uintptr_t>(host);
  slot_ = take_slot(begin, begin + size, fd, offset, event_.fd(), holes);
  install();
}

LostPages::~LostPages() {
  {
    Slot& slot = slots.at(slot_);
    const SlotLock lock(slot);
    slot.begin.store(0, std::memory_order_release);
  }
  uninstall();
}

bool LostPages::any() const noexcept {
  return slots.at(slot_).lost.load(std::memory_order_acquire);
}

bool LostPages::replace() noexcept {
  const std::lock_guard lock(mutex_);
  bool may_help = any();
  {
    Slot& slot = slots.at(slot_);
    const SlotLock replacing(slot);
    if (replace_beyond_end(slot)) return true;
    if (!slot.holes_done && has_room(slot)) {
      may_help = true;
    } else if (replace_holes(slot)) {
      return true;
    }
  }
  return may_help && ++idle_calls_ <= kMaxIdleCalls;
}

}  // namespace tsvmm

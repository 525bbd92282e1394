#include "virtio/pmem.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "core/bytes.h"
#include "core/error.h"
#include "core/monotonic.h"
#include "memory/reserve.h"
#include "virtio/chain_bytes.h"
#include "virtio/config_bytes.h"
#include "virtio/device_kind.h"

namespace tsvmm {
namespace {

constexpr uint16_t kQueueSize = 256;
/// Each can take long, and a pause waits for those of one turn.
constexpr int kRequestsPerTurn = 1;

// virtio 1.2 §5.19.6.
constexpr uint32_t kRequestFlush = 0;
constexpr uint32_t kOk = 0;
constexpr uint32_t kIoError = 1;

/// struct virtio_pmem_config, §5.19.4.
struct Config {
  uint64_t start;
  uint64_t size;
};
static_assert(sizeof(Config) == 16);

}  // namespace

VirtioPmem::Mapping::Mapping(int fd, const Options& options)
    : host_(reserve_aligned(options.size)), size_(options.size) {
  const int flags = MAP_FIXED | MAP_NORESERVE | (options.discard_writes ? MAP_PRIVATE : MAP_SHARED);
  if (::mmap(host_, size_, PROT_READ | PROT_WRITE, flags, fd, 0) == MAP_FAILED) {
    const int error = errno;
    ::munmap(host_, size_);
    throw Error::from_errno("mapping persistent memory", error);
  }
  ::madvise(host_, size_, MADV_DONTDUMP);
}

VirtioPmem::Mapping::~Mapping() {
  if (host_ != nullptr) ::munmap(host_, size_);
}

VirtioPmem::VirtioPmem(UniqueFd fd, GuestMemory& memory, const Options& options)
    : memory_(memory),
      fd_(std::move(fd)),
      discard_writes_(options.discard_writes),
      mapping_(std::in_place, fd_.get(), options),
      lost_pages_(std::in_place, mapping_->host(), options.size, fd_.get(), 0,
                  options.discard_writes ? LostPages::Holes::kOneByOne : LostPages::Holes::kAtOnce),
      device_memory_(memory.add_device_memory(mapping_->host(), options.size, fd_.get())),
      loop_(options.id) {}

VirtioPmem::~VirtioPmem() {
  reset();
  unmap();
}

uint64_t VirtioPmem::features() const noexcept {
  return virtio_feature::kIndirectDescriptors | virtio_feature::kEventIndex;
}

std::vector<uint16_t> VirtioPmem::queue_sizes() const { return {kQueueSize}; }

uint32_t VirtioPmem::config_size() const noexcept { return sizeof(Config); }

void VirtioPmem::read_config(uint32_t offset, std::span<uint8_t> data) noexcept {
  const Config config{.start = start_, .size = device_memory_->size()};
  copy_config(config, offset, data);
}

void VirtioPmem::device_memory_moved(std::optional<GuestAddress> address) noexcept {
  if (address) start_ = *address;
}

void VirtioPmem::unmap() noexcept {
  if (!mapping_) return;
  memory_.remove_device_memory(*device_memory_);
  mapping_->release();
  mapping_.reset();
  const std::lock_guard lock(repair_mutex_);
  lost_pages_.reset();
}

bool VirtioPmem::repair_device_memory() noexcept {
  const std::lock_guard lock(repair_mutex_);
  return lost_pages_ && lost_pages_->replace();
}

void VirtioPmem::activate(const Activation& activation) {
  const VirtqueueSetup* setup = activation.queue(0);
  if (setup == nullptr) return;
  stopped_ = false;
  loop_.add(lost_pages_->event().fd(), io::kReadable, [this](IoEvents) { on_lost_pages(); });
  watches_ = true;
  if (lost_pages_->any()) lost_pages_->event().signal();
  server_ =
      std::make_unique<QueueServer>(loop_, activation, *setup, transport(), kRequestsPerTurn,
                                    [this](const DescriptorChain& chain) { return answer(chain); });
}

bool VirtioPmem::try_reset(const Deadline& deadline) noexcept {
  // A machine may be deleted while it is paused.
  loop_.resume();
  if (!teardown_.in_progress() && !server_ && !watches_) return true;
  const auto work = [this] {
    server_.reset();
    // Its handler uses the transport, which may be gone after this.
    if (std::exchange(watches_, false)) loop_.remove(lost_pages_->event().fd());
  };
  return teardown_.run(loop_, work, deadline);
}

/// On its own thread: to close a file on some file systems is to wait for what was written to it.
bool VirtioPmem::try_close(const Deadline& deadline) noexcept {
  if (!closing_.in_progress() && !fd_.valid()) return true;
  const auto work = [this] {
    unmap();
    fd_.reset();
  };
  return closing_.run(loop_, work, deadline);
}

uint32_t VirtioPmem::answer(const DescriptorChain& chain) noexcept {
  std::array<uint8_t, sizeof(uint32_t)> bytes{};
  const bool whole = gather(chain.readable, bytes) == bytes.size();
  const bool done = whole && load<uint32_t>(bytes) == kRequestFlush && flush();
  store<uint32_t>(std::span<uint8_t>(bytes), done ? kOk : kIoError);
  return scatter(bytes, chain.writable);
}

bool VirtioPmem::sync() noexcept {
  if (lost_pages_->any() || syncs_.failure() != 0) return false;
  // The file's mapped pages are written back, too.
  int result;
  do {
    result = ::fsync(fd_.get());
  } while (result != 0 && errno == EINTR);
  if (result == 0) return true;
  fail(Error::from_errno("flushing its file failed", errno).what());
  return false;
}

void VirtioPmem::fail(const std::string& why) noexcept {
  syncs_.fail(EIO);
  transport().warn(why +
                   ". What the guest wrote since its last flush may be lost, and no flush "
                   "succeeds any more before the VM is started anew");
}

void VirtioPmem::on_lost_pages() noexcept {
  (void)lost_pages_->event().consume();
  if (syncs_.failure() == 0) {
    fail("its file was made shorter, or its file system is full: a part of it is gone");
  }
  if (!stopped_.exchange(true)) transport().failed("persistent memory without its file");
}

bool VirtioPmem::flush() noexcept {
  const uint64_t before = monotonic_ns();
  const bool done = discard_writes_ || sync();
  ++flushes_;
  if (!done) ++failed_flushes_;
  flush_ns_ += monotonic_ns() - before;
  return done;
}

std::vector<Counter> VirtioPmem::counters() const {
  return {{"flushes", flushes_},
          {"failed_flushes", failed_flushes_},
          {"flush_time_us", flush_ns_ / 1000}};
}

namespace {

struct PmemSpec : DeviceSpec {
  explicit PmemSpec(Fields& fields)
      : fd(fields["fd"].descriptor()),
        size(fields["size"].number()),
        discard_writes(fields["discardWrites"].boolean()) {}

  std::shared_ptr<VirtioDevice> make(const std::string& id, const DeviceContext& context) override {
    return std::make_shared<VirtioPmem>(
        std::move(fd), context.memory,
        VirtioPmem::Options{.id = id, .size = size, .discard_writes = discard_writes});
  }

  UniqueFd fd;
  uint64_t size;
  bool discard_writes;
};

}  // namespace

DeviceKind pmem_kind() { return {"pmem", read_device_spec<PmemSpec>}; }

}  // namespace tsvmm

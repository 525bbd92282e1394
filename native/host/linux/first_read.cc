#include "host/first_read.h"

#include <fcntl.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

#include "core/descriptor_name.h"
#include "core/unique_fd.h"

namespace tsvmm {
namespace {

constexpr size_t kHeadSize = 4096;
constexpr size_t kTailSize = 512;

bool read_part(int fd, size_t size, off_t offset, int flags) {
  std::array<char, kHeadSize> bytes;
  iovec piece{.iov_base = bytes.data(), .iov_len = size};
  return ::preadv2(fd, &piece, 1, offset, flags) == static_cast<ssize_t>(size);
}

/// `size` is the file's.
bool read_ends(int fd, off_t size, int flags) {
  const auto whole = static_cast<size_t>(size);
  const size_t tail = std::min(kTailSize, whole);
  return read_part(fd, std::min(kHeadSize, whole), 0, flags) &&
         read_part(fd, tail, size - static_cast<off_t>(tail), flags);
}

bool has_bytes(mode_t mode) { return S_ISREG(mode) || S_ISBLK(mode); }

/// Fails instead of waiting where a name is not in the kernel's cache, or needs a server to be
/// asked. (Of NFS and 9p, a file that is itself mounted on another is looked at by its server all
/// the same.)
UniqueFd open_cached(const std::string& path, uint64_t flags) {
  open_how how{};
  how.flags = flags | O_CLOEXEC;
  how.resolve = RESOLVE_CACHED;
  return UniqueFd(
      static_cast<int>(::syscall(SYS_openat2, AT_FDCWD, path.c_str(), &how, sizeof how)));
}

/// By no name: another file may have that by now, of a kind whose opening has effects.
UniqueFd open_found(const UniqueFd& found) {
  return UniqueFd(::open(descriptor_path(found.get()).c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

// statmount(2), Linux 6.8: newer than the headers that this is built with.
constexpr long kStatmount = 457;             ///< the same on all architectures
constexpr unsigned kMountIdUnique = 0x4000;  ///< STATX_MNT_ID_UNIQUE
constexpr uint64_t kSuperblockBasic = 1;     ///< STATMOUNT_SB_BASIC
struct MountRequest {
  uint32_t size = sizeof(MountRequest);
  uint32_t reserved = 0;
  uint64_t mount = 0;
  uint64_t wanted = kSuperblockBasic;
};
struct MountStatus {
  uint32_t size = 0;
  uint32_t options = 0;
  uint64_t mask = 0;
  uint32_t device_major = 0;
  uint32_t device_minor = 0;
  uint64_t magic = 0;
  std::array<uint8_t, 480> rest{};
};

/// The type of the file system, which statfs(2) would ask a server for.
std::optional<uint64_t> magic_of(const struct statx& status) {
  if ((status.stx_mask & kMountIdUnique) == 0) return std::nullopt;
  const MountRequest request{.mount = status.stx_mnt_id};
  MountStatus mount;
  if (::syscall(kStatmount, &request, &mount, sizeof mount, 0) != 0) return std::nullopt;
  if ((mount.mask & kSuperblockBasic) == 0) return std::nullopt;
  return mount.magic;
}

/// What opening a file whose names are valid, and reading it, can wait for.
enum class WaitsFor { kNothing, kBytes, kOthers };

/// What shares a disk with other hosts never gets here: its names are not valid without asking
/// these. Nor does what is on a server below an overlay, which asks its layers, for longer than
/// names there are valid without the server.
WaitsFor file_system_waits_for(const struct statx& status) {
  switch (magic_of(status).value_or(0)) {
    case TMPFS_MAGIC:
    case RAMFS_MAGIC:
    case HUGETLBFS_MAGIC:
    case OVERLAYFS_SUPER_MAGIC:  // has no RWF_NOWAIT
      return WaitsFor::kNothing;
    case BTRFS_SUPER_MAGIC:
      return WaitsFor::kBytes;
    case FUSE_SUPER_MAGIC:
      return WaitsFor::kOthers;
    default:
      // A device with a number of its own; before Linux 6.8 also one of FUSE, as NTFS-3G has.
      return status.stx_dev_major != 0 ? WaitsFor::kBytes : WaitsFor::kOthers;
  }
}

}  // namespace

void read_first(const std::string& path) {
  const UniqueFd found(::open(path.c_str(), O_PATH | O_CLOEXEC));
  struct stat status {};
  if (!found.valid() || ::fstat(found.get(), &status) != 0) return;
  if (!has_bytes(status.st_mode) && !S_ISDIR(status.st_mode)) return;
  const UniqueFd file = open_found(found);
  if (!file.valid() || S_ISDIR(status.st_mode)) return;
  // A block device's size is not known by its name.
  (void)read_ends(file.get(), S_ISREG(status.st_mode) ? status.st_size : kHeadSize, 0);
}

bool is_cached(const std::string& path) {
  // Nothing of the file itself is opened yet, for which a server may be asked, too.
  const UniqueFd found = open_cached(path, O_PATH);
  struct statx status {};
  constexpr int kFlags = AT_EMPTY_PATH | AT_STATX_DONT_SYNC;
  if (!found.valid() ||
      ::statx(found.get(), "", kFlags, STATX_TYPE | STATX_SIZE | kMountIdUnique, &status) != 0) {
    return false;
  }
  // Of character devices and FIFOs nothing is read, nor do those of a server ask it.
  if (!has_bytes(status.stx_mode) && !S_ISDIR(status.stx_mode)) return true;
  const WaitsFor waits_for = file_system_waits_for(status);
  if (S_ISBLK(status.stx_mode) || waits_for == WaitsFor::kOthers) return false;
  if (S_ISDIR(status.stx_mode) || waits_for == WaitsFor::kNothing) return true;
  // By its name, as the way over /proc takes five times as long: what has taken its place since
  // waits for nobody either, and becomes no controlling terminal.
  const UniqueFd file = open_cached(path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
  return file.valid() && read_ends(file.get(), static_cast<off_t>(status.stx_size), RWF_NOWAIT);
}

}  // namespace tsvmm

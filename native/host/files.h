#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/unique_fd.h"

namespace tsvmm {

/// What a path may lead to; a mask.
enum FileKind : unsigned {
  kRegularFile = 1,
  kBlockDevice = 2,
  kCharacterDevice = 4,
  kFifo = 8,
};

/// open(2) for everything that is opened by a name: close-on-exec, never a controlling terminal,
/// and without ever blocking. What is of a kind that `kinds` does not permit is not touched at all,
/// as opening a device can have effects. The description blocks afterwards unless `flags` has
/// O_NONBLOCK. `mode` is that of a file it creates. Throws Error, ERR_TSVMM_FILE_KIND for the wrong
/// kind.
UniqueFd open_file(const std::string& path, int flags, unsigned mode, unsigned kinds);

/// The most that one read_at() returns, in bytes.
inline constexpr uint64_t kMaxRead = 64U << 20;
/// pread(2), repeated until `length` bytes (at most kMaxRead) or the end of the file. Throws Error.
std::vector<uint8_t> read_at(int fd, uint64_t offset, uint64_t length);

/// ftruncate(2). Throws Error.
void set_file_size(int fd, uint64_t size);

/// Two connected UNIX stream sockets, close-on-exec. Throws Error.
std::pair<UniqueFd, UniqueFd> stream_pair();

/// Takes an open-file-description lock (fcntl(2), F_OFD_SETLK) on [start, start + length), length 0
/// reaching to the end. False if another description holds a lock in the way. Throws Error.
bool lock_range(int fd, bool exclusive, uint64_t start, uint64_t length);

/// Gives back what lock_range() took in that range. Throws Error.
void unlock_range(int fd, uint64_t start, uint64_t length);

struct FileLock {
  uint64_t start = 0;
  bool exclusive = false;
};
/// A lock of another description in [start, start + length), if there is any. Throws Error.
std::optional<FileLock> lock_holder(int fd, uint64_t start, uint64_t length);

/// The same for two descriptors of one file, and for no others. Throws Error.
std::string file_id(int fd);

/// file_id() of what a path leads to, without opening it; nullopt if that cannot be looked at.
std::optional<std::string> file_id_at(const std::string& path);

/// Bytes of a regular file or block device. Throws Error, ERR_TSVMM_FILE_KIND for anything else.
uint64_t image_size(int fd);

/// The most that one random_bytes() returns.
inline constexpr uint64_t kMaxRandom = 256;
/// Unpredictable bytes (getrandom(2)). Throws Error.
std::vector<uint8_t> random_bytes(uint64_t length);

}  // namespace tsvmm

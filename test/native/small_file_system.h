#pragma once

#include <fcntl.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>

#include "core/unique_fd.h"

namespace tsvmm::disk_test {

/// A file system of its own, of which a test can use up all.
class SmallFileSystem {
 public:
  /// `options` as of mount(8), for example size=4m of a tmpfs.
  explicit SmallFileSystem(const char* options, const char* type = "tmpfs") {
    std::string name = "/tmp/tsvmm-small-XXXXXX";
    if (::mkdtemp(name.data()) == nullptr) return;
    path_ = name;
    mounted_ = ::mount("none", path_.c_str(), type, 0, options) == 0;
  }
  ~SmallFileSystem() {
    if (mounted_) ::umount2(path_.c_str(), MNT_DETACH);
    ::rmdir(path_.c_str());
  }
  SmallFileSystem(const SmallFileSystem&) = delete;
  SmallFileSystem& operator=(const SmallFileSystem&) = delete;

  [[nodiscard]] bool mounted() const { return mounted_; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// A new file of so many bytes, none of which has room set aside.
  [[nodiscard]] UniqueFd file(const std::string& name, uint64_t size) const {
    UniqueFd file(::open((path_ + "/" + name).c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (::ftruncate(file.get(), static_cast<off_t>(size)) != 0) file.reset();
    return file;
  }

 private:
  std::string path_;
  bool mounted_ = false;
};

#define REQUIRE_MOUNTED(file_system) \
  if (!(file_system).mounted()) GTEST_SKIP() << "mounting takes rights that this process has not"

}  // namespace tsvmm::disk_test

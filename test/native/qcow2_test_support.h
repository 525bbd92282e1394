#pragma once

#include <string>
#include <utility>
#include <vector>

#include "image_test_support.h"

namespace tsvmm::qcow2_test {

using namespace disk_test;  // NOLINT(google-build-using-namespace): its part for one format

/// What `qemu-img check` finds: nothing; leaks only; or worse.
enum class Check { kClean, kLeaks, kCorrupt };
inline Check check(const std::string& path, std::string* output = nullptr) {
  switch (shell("qemu-img check -f qcow2 " + path, output)) {
    case 0:
      return Check::kClean;
    case 3:
      return Check::kLeaks;
    default:
      return Check::kCorrupt;
  }
}

inline void expect_clean(const std::string& path) {
  std::string output;
  EXPECT_EQ(check(path, &output), Check::kClean) << output;
}

/// What a disk holds, as QEMU sees it.
inline Bytes content_by_qemu(const std::string& path) {
  return disk_test::content_by_qemu("qcow2", path);
}

/// Operations on a qcow2 image, one after the other.
class Disk : public disk_test::Disk {
 public:
  /// The layers are opened read-only but for the first.
  static Disk open(const std::vector<std::pair<std::string, ImageFormat>>& layers,
                   ImageOptions options = {}) {
    return Disk(disk_test::Disk::open(layers, options));
  }
  static Disk open(const std::string& path, ImageOptions options = {}) {
    return open({{path, ImageFormat::kQcow2}}, options);
  }

  using disk_test::Disk::Disk;

 private:
  explicit Disk(disk_test::Disk disk) : disk_test::Disk(std::move(disk)) {}
};

}  // namespace tsvmm::qcow2_test

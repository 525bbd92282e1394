#pragma once

#include <gtest/gtest.h>

#include <string>

#include "image_test_support.h"

namespace tsvmm::disk_test {

/// A block device whose blocks are in a file; without a path if this host or user cannot have one.
class LoopDevice {
 public:
  LoopDevice(const std::string& file, int sector_size) {
    std::string output;
    if (shell("losetup -f --show -b " + std::to_string(sector_size) + " " + file, &output) != 0) {
      why_not_ = output;
      return;
    }
    path_ = output.substr(0, output.find('\n'));
  }
  ~LoopDevice() {
    if (!path_.empty()) shell("losetup -d " + path_);
  }
  LoopDevice(const LoopDevice&) = delete;
  LoopDevice& operator=(const LoopDevice&) = delete;

  const std::string& path() const { return path_; }
  /// Makes the file that long, and the device with it.
  void resize(const std::string& file, uint64_t bytes) const {
    must("truncate -s " + std::to_string(bytes) + " " + file);
    must("losetup -c " + path_);
  }
  const std::string& why_not() const { return why_not_; }

 private:
  std::string path_;
  std::string why_not_;
};

#define REQUIRE_LOOP_DEVICE(device) \
  if ((device).path().empty()) GTEST_SKIP() << "no loop device here: " << (device).why_not()

}  // namespace tsvmm::disk_test

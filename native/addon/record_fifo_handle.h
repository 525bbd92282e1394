#pragma once

#include <napi.h>

#include <utility>

#include "host/record_fifo.h"

namespace tsvmm {

/// What a RecordFifoHandle of JavaScript holds.
class RecordFifoHandle {
 public:
  static constexpr napi_type_tag kTag{0x7473766d6d2d6669, 0x666f2d7265632d31};
  static constexpr const char* kName = "FIFO of records";

  explicit RecordFifoHandle(UniqueFd fifo) : fifo_(std::move(fifo)) {}

  /// When the handle was collected: there is nothing but what the destructor does.
  void abandon() noexcept {}

  [[nodiscard]] RecordFifo& fifo() { return fifo_; }

 private:
  RecordFifo fifo_;
};

}  // namespace tsvmm

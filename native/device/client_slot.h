#pragma once

#include <mutex>
#include <span>

#include "device/char_backend.h"

namespace tsvmm {

/// The device that a host end serves. A detached one is not called any more once attach() has
/// returned, whatever state the event loop is in; so a client must not attach or detach from within
/// its own functions.
class ClientSlot {
 public:
  void attach(CharClient* client) {
    const std::lock_guard lock(mutex_);
    client_ = client;
  }
  size_t input_room() {
    const std::lock_guard lock(mutex_);
    return client_ != nullptr ? client_->input_room() : 0;
  }
  void input(std::span<const uint8_t> bytes) {
    const std::lock_guard lock(mutex_);
    if (client_ != nullptr) client_->input(bytes);
  }
  void output_ready() {
    const std::lock_guard lock(mutex_);
    if (client_ != nullptr) client_->output_ready();
  }
  void resized(uint16_t columns, uint16_t rows) {
    const std::lock_guard lock(mutex_);
    if (client_ != nullptr) client_->resized(columns, rows);
  }

 private:
  std::mutex mutex_;
  CharClient* client_ = nullptr;
};

}  // namespace tsvmm

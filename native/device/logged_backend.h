#pragma once

#include <memory>
#include <span>
#include <utility>

#include "core/host_output.h"
#include "device/char_backend.h"

namespace tsvmm {

/// Another host end, whose output goes into a file as well.
class LoggedBackend final : public CharBackend {
 public:
  /// `log` is a regular file. Throws Error.
  LoggedBackend(std::unique_ptr<CharBackend> backend, int log, HostOutput::Lost lost)
      : backend_(std::move(backend)), log_(log, std::move(lost)) {}

  void attach(CharClient* client) override { backend_->attach(client); }
  /// What is refused is offered again: the file gets only what was taken.
  size_t write(std::span<const uint8_t> bytes) noexcept override {
    const size_t taken = backend_->write(bytes);
    log_.write(bytes.first(taken));
    return taken;
  }
  void input_wanted() noexcept override { backend_->input_wanted(); }

 private:
  std::unique_ptr<CharBackend> backend_;
  HostOutput log_;
};

}  // namespace tsvmm

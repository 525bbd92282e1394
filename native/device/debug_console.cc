#include "device/debug_console.h"

namespace tsvmm {
namespace {

constexpr uint8_t kPresent = 0xE9;

}  // namespace

DebugConsole::DebugConsole(std::unique_ptr<CharBackend> backend, const DebugConsoleState& state)
    : ByteDevice(kSize), backend_(std::move(backend)) {
  held_.append(state.held);
  backend_->attach(this);
  output_ready();
}

DebugConsole::~DebugConsole() { backend_->attach(nullptr); }

DebugConsoleState DebugConsole::state() const {
  const std::lock_guard lock(mutex_);
  DebugConsoleState state;
  for (uint64_t at = held_.end() - held_.unread(); at < held_.end();) {
    const std::span<const uint8_t> piece = held_.at(at);
    state.held.insert(state.held.end(), piece.begin(), piece.end());
    at += piece.size();
  }
  return state;
}

uint8_t DebugConsole::read_register(uint64_t /*offset*/) { return kPresent; }

void DebugConsole::write_register(uint64_t /*offset*/, uint8_t value) {
  const std::lock_guard lock(mutex_);
  // Bytes held go first. The backend tells when it takes them, and refuses until then.
  if (held_.unread() == 0 && backend_->write({&value, 1}) == 1) return;
  held_.append({&value, 1});
}

size_t DebugConsole::input_room() { return 0; }

void DebugConsole::input(std::span<const uint8_t> /*bytes*/) {}

void DebugConsole::output_ready() {
  const std::lock_guard lock(mutex_);
  flush_held();
}

void DebugConsole::flush_held() {
  while (held_.unread() > 0) {
    const auto piece = held_.front();
    const size_t written = backend_->write(piece);
    held_.consume(written);
    if (written < piece.size()) return;
  }
}

}  // namespace tsvmm

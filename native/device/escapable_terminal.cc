#include "device/escapable_terminal.h"

#include <algorithm>
#include <utility>

namespace tsvmm {
namespace {

constexpr uint8_t kPrefix = 0x01;  // Ctrl-A

}  // namespace

EscapableTerminal::EscapableTerminal(int input, int output, EventLoop& loop,
                                     std::function<void()> escape, HostOutput::Lost lost)
    : loop_(loop), escape_(std::move(escape)), terminal_(input, output, loop, std::move(lost)) {
  loop_.add(deliver_.fd(), io::kReadable, [this](IoEvents) {
    (void)deliver_.consume();
    deliver();
  });
}

EscapableTerminal::~EscapableTerminal() {
  terminal_.attach(nullptr);
  loop_.remove(deliver_.fd());
}

void EscapableTerminal::attach(CharClient* client) {
  client_.attach(client);
  // The terminal goes on being read without a device: the escape works then, too.
  terminal_.attach(&keys_);
  if (client != nullptr) deliver_.signal();
}

void EscapableTerminal::on_keys(std::span<const uint8_t> bytes) {
  for (const uint8_t key : bytes) on_key(key);
  deliver();
}

void EscapableTerminal::on_key(uint8_t key) {
  if (!after_prefix_) {
    after_prefix_ = key == kPrefix;
    if (!after_prefix_) type(key);
    return;
  }
  after_prefix_ = false;
  if (key == 'x' || key == 'X') {
    escape_();
    return;
  }
  type(kPrefix);
  if (key != kPrefix) type(key);
}

void EscapableTerminal::type(uint8_t key) {
  if (typed_.room() > 0) typed_.append({&key, 1});
}

void EscapableTerminal::deliver() {
  while (typed_.unread() > 0) {
    const auto piece = typed_.front();
    const size_t count = std::min(piece.size(), client_.input_room());
    if (count == 0) return;
    client_.input(piece.first(count));
    typed_.consume(count);
  }
}

}  // namespace tsvmm

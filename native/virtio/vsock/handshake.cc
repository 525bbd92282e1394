#include "virtio/vsock/handshake.h"

#include <charconv>

namespace tsvmm::vsock {
namespace {

constexpr std::string_view kSpace = " \t\r\v\f";
constexpr std::string_view kCommand = "connect";

std::string_view trimmed(std::string_view text) {
  const size_t first = text.find_first_not_of(kSpace);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(kSpace) - first + 1);
}

bool is_command(std::string_view word) {
  if (word.size() != kCommand.size()) return false;
  for (size_t i = 0; i < word.size(); ++i) {
    const bool upper = word[i] >= 'A' && word[i] <= 'Z';
    if ((upper ? word[i] - 'A' + 'a' : word[i]) != kCommand[i]) return false;
  }
  return true;
}

}  // namespace

std::optional<uint32_t> parse_connect(std::string_view line) noexcept {
  const std::string_view text = trimmed(line);
  const size_t end = text.find_first_of(kSpace);
  if (end == std::string_view::npos || !is_command(text.substr(0, end))) return std::nullopt;
  const std::string_view number = trimmed(text.substr(end));
  uint32_t port = 0;
  const char* last = number.data() + number.size();
  const auto [stop, error] = std::from_chars(number.data(), last, port);
  if (error != std::errc() || stop != last) return std::nullopt;
  return port;
}

}  // namespace tsvmm::vsock

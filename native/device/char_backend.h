#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "core/event_loop.h"
#include "device/output_errors.h"

namespace tsvmm {

/// The guest-facing side of a character device, as its host end sees it. Called on the event loop's
/// thread.
class CharClient {
 public:
  virtual ~CharClient() = default;
  /// How many bytes of input the device can take now; 0 stops reading until input_wanted().
  virtual size_t input_room() = 0;
  /// At most input_room() bytes.
  virtual void input(std::span<const uint8_t> bytes) = 0;
  /// A write that took fewer bytes than offered may be tried again.
  virtual void output_ready() = 0;
  /// The host end is a terminal that has another size now, in characters.
  virtual void resized([[maybe_unused]] uint16_t columns, [[maybe_unused]] uint16_t rows) {}
};

/// The host end of a character device: null, terminal, file, pseudo terminal or socket.
class CharBackend {
 public:
  virtual ~CharBackend() = default;
  /// Connects the device; nullptr disconnects, after which the old client is not called any more.
  virtual void attach(CharClient* client) = 0;
  /// Takes as many bytes as it can without blocking and returns their number. Any thread.
  virtual size_t write(std::span<const uint8_t> bytes) noexcept = 0;
  /// The client has room for input again. Any thread.
  virtual void input_wanted() noexcept = 0;
};

/// Which host end to make, and on which descriptors (the caller's; they are duplicated).
struct CharBackendSpec {
  enum class Kind { kNull, kTty, kFile, kPty, kSocket };
  Kind kind = Kind::kNull;
  int input = -1;  ///< kTty: read from here, -1 for no input
  int output =
      -1;        ///< kTty: the terminal; kFile, kPty: the descriptor; kSocket: the listening socket
  int log = -1;  ///< a file that gets the output as well, -1 for none
};

/// What a host end reports to the machine rather than to its device.
struct CharBackendReports {
  /// The escape sequence was typed at a terminal. Called on the loop's thread; may be empty.
  std::function<void()> escape;
  /// May be null.
  std::shared_ptr<OutputErrors> output_errors;
};

/// Throws Error.
std::unique_ptr<CharBackend> make_char_backend(const CharBackendSpec& spec, EventLoop& loop,
                                               const CharBackendReports& reports);

}  // namespace tsvmm

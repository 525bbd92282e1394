#include "device/char_backend.h"

#include "core/error.h"
#include "device/pty_backend.h"
#include "device/socket_backend.h"
#include "device/tty_backend.h"

namespace tsvmm {
namespace {

class NullBackend final : public CharBackend {
 public:
  void attach(CharClient* /*client*/) override {}
  size_t write(std::span<const uint8_t> bytes) noexcept override { return bytes.size(); }
  void input_wanted() noexcept override {}
};

}  // namespace

std::unique_ptr<CharBackend> make_char_backend(const CharBackendSpec& spec, EventLoop& loop) {
  switch (spec.kind) {
    case CharBackendSpec::Kind::kNull:
      return std::make_unique<NullBackend>();
    case CharBackendSpec::Kind::kTty:
      return std::make_unique<TtyBackend>(spec.input, spec.output, loop);
    case CharBackendSpec::Kind::kFile:
      return std::make_unique<TtyBackend>(-1, spec.output, loop);
    case CharBackendSpec::Kind::kPty:
      return std::make_unique<PtyBackend>(spec.output, loop);
    case CharBackendSpec::Kind::kSocket:
      return std::make_unique<SocketBackend>(spec.output, loop);
  }
  throw Error("EINVAL", "unknown kind of character device");
}

}  // namespace tsvmm

#include "device/char_backend.h"

#include <unistd.h>

#include "core/error.h"
#include "device/escapable_terminal.h"
#include "device/logged_backend.h"
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

HostOutput::Lost reported(const std::shared_ptr<OutputErrors>& errors, OutputErrors::File file) {
  if (errors == nullptr) return {};
  return [errors, file](int error) { errors->report(file, error); };
}

std::unique_ptr<CharBackend> make_unlogged(const CharBackendSpec& spec, EventLoop& loop,
                                           const CharBackendReports& reports) {
  const auto lost = [&] { return reported(reports.output_errors, OutputErrors::File::kOutput); };
  switch (spec.kind) {
    case CharBackendSpec::Kind::kNull:
      return std::make_unique<NullBackend>();
    case CharBackendSpec::Kind::kTty:
      // What comes by a pipe or a file is data, whatever its bytes are.
      if (spec.input >= 0 && ::isatty(spec.input) == 1) {
        return std::make_unique<EscapableTerminal>(spec.input, spec.output, loop, reports.escape,
                                                   lost());
      }
      return std::make_unique<TtyBackend>(spec.input, spec.output, loop, lost());
    case CharBackendSpec::Kind::kFile:
      return std::make_unique<TtyBackend>(-1, spec.output, loop, lost());
    case CharBackendSpec::Kind::kPty:
      return std::make_unique<PtyBackend>(spec.output, loop);
    case CharBackendSpec::Kind::kSocket:
      return std::make_unique<SocketBackend>(spec.output, loop);
  }
  throw Error("EINVAL", "unknown kind of character device");
}

}  // namespace

std::unique_ptr<CharBackend> make_char_backend(const CharBackendSpec& spec, EventLoop& loop,
                                               const CharBackendReports& reports) {
  auto backend = make_unlogged(spec, loop, reports);
  if (spec.log < 0) return backend;
  return std::make_unique<LoggedBackend>(std::move(backend), spec.log,
                                         reported(reports.output_errors, OutputErrors::File::kLog));
}

}  // namespace tsvmm

#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "core/cbor_writer.h"
#include "core/message.h"
#include "machine/machine.h"

namespace tsvmm {

/// What a command does, with its arguments read. May write one item as its answer. `command` is its
/// message, for arguments that only a device can read.
using MachineAction = std::function<void(Machine& machine, Message& command, CborWriter& answer)>;

/// A command that machines know. src/boundary/machine.ts documents each (MachineCalls).
struct MachineCommandKind {
  enum class Turn : uint8_t {
    kAtOnce,  ///< returns at once, on any thread
    kOwn,     ///< may take long: after those before it
    kLast,    ///< the same, and calls those off
  };
  std::string_view name;
  Turn turn;
  /// Throws Error.
  MachineAction (*read)(Fields& fields);
};

[[nodiscard]] std::span<const MachineCommandKind> machine_command_kinds();
/// Those of a debugger.
[[nodiscard]] std::span<const MachineCommandKind> debug_command_kinds();

/// A command to a machine: a message of one map, with its name as `command`.
class MachineCommand {
 public:
  using Turn = MachineCommandKind::Turn;

  /// Throws Error; nothing has been done then.
  explicit MachineCommand(Message message);

  [[nodiscard]] Turn turn() const { return turn_; }
  void run(Machine& machine, CborWriter& answer) { action_(machine, message_, answer); }

 private:
  Message message_;
  Turn turn_ = Turn::kAtOnce;
  MachineAction action_;
};

/// Answers a question about a machine, which changes nothing and is answered from memory:
/// `counters`, `status`, `vcpus` or `post-codes`. Throws Error.
void answer_question(Machine& machine, const Value& question, CborWriter& answer);

}  // namespace tsvmm

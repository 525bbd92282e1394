#include <array>
#include <string_view>

#include "machine/machine_commands.h"

namespace tsvmm {
namespace {

using namespace std::string_view_literals;
using Turn = MachineCommandKind::Turn;

/// Of guest memory, at once.
constexpr uint64_t kMaxDebugRead = 4096;
constexpr uint64_t kAnyAddress = UINT64_MAX;

unsigned read_vcpu(Fields& fields) { return fields["vcpu"].narrow<uint16_t>(); }

RegisterSet read_register_set(Fields& fields) {
  constexpr std::array kSets{"general"sv, "special"sv, "vector"sv};
  return static_cast<RegisterSet>(fields["set"].choice(kSets));
}

VcpuGroup::DebugOrder read_order(const Value& value) {
  constexpr std::array kOrders{"hold"sv, "run"sv, "step"sv};
  return static_cast<VcpuGroup::DebugOrder>(value.choice(kOrders));
}

HardwareBreakpoint read_hardware_breakpoint(Fields& fields) {
  constexpr std::array kNames{"execute"sv, "write"sv, "access"sv};
  constexpr std::array kKinds{HardwareBreakpoint::Kind::kExecute, HardwareBreakpoint::Kind::kWrite,
                              HardwareBreakpoint::Kind::kAccess};
  return {.address = fields["address"].number(kAnyAddress),
          .kind = kKinds.at(fields["kind"].choice(kNames)),
          .length = fields["length"].narrow<uint8_t>()};
}

MachineAction read_stop(Fields& /*fields*/) {
  return [](Machine& machine, Message&, CborWriter&) { machine.debug_stop(); };
}

MachineAction read_resume(Fields& fields) {
  std::vector<VcpuGroup::DebugOrder> orders;
  fields["orders"].each([&](const Value& order) { orders.push_back(read_order(order)); });
  DebugTraps traps;
  fields["hardware"].each([&](const Value& breakpoint) {
    traps.hardware.push_back(breakpoint.map(read_hardware_breakpoint));
  });
  fields["software"].each(
      [&](const Value& address) { traps.software.push_back(address.number(kAnyAddress)); });
  return [orders = std::move(orders), traps = std::move(traps)](
             Machine& machine, Message&, CborWriter&) { machine.debug_resume(orders, traps); };
}

MachineAction read_registers(Fields& fields) {
  return [vcpu = read_vcpu(fields), set = read_register_set(fields)](Machine& machine, Message&,
                                                                     CborWriter& answer) {
    machine.debug_vcpu(vcpu, [&](VcpuDebug& debug) { answer.bytes(debug.registers(set)); });
  };
}

MachineAction read_set_registers(Fields& fields) {
  return [vcpu = read_vcpu(fields), set = read_register_set(fields),
          bytes = fields["bytes"].bytes()](Machine& machine, Message&, CborWriter&) {
    machine.debug_vcpu(vcpu, [&](VcpuDebug& debug) { debug.set_registers(set, bytes); });
  };
}

MachineAction read_translate(Fields& fields) {
  return [vcpu = read_vcpu(fields), address = fields["address"].number(kAnyAddress)](
             Machine& machine, Message&, CborWriter& answer) {
    machine.debug_vcpu(vcpu, [&](VcpuDebug& debug) {
      const auto physical = debug.translate(address);
      if (physical) answer.number(*physical);
    });
  };
}

MachineAction read_read(Fields& fields) {
  return [address = fields["address"].number(kAnyAddress),
          length = fields["length"].number(kMaxDebugRead)](Machine& machine, Message&,
                                                           CborWriter& answer) {
    std::vector<uint8_t> bytes(length);
    if (machine.debug_read(address, bytes)) answer.bytes(bytes);
  };
}

MachineAction read_write(Fields& fields) {
  return [address = fields["address"].number(kAnyAddress), bytes = fields["bytes"].bytes()](
             Machine& machine, Message&, CborWriter& answer) {
    answer.boolean(machine.debug_write(address, bytes));
  };
}

constexpr std::array kKinds{
    MachineCommandKind{"debug-stop", Turn::kOwn, read_stop},
    MachineCommandKind{"debug-resume", Turn::kAtOnce, read_resume},
    MachineCommandKind{"debug-registers", Turn::kAtOnce, read_registers},
    MachineCommandKind{"debug-set-registers", Turn::kAtOnce, read_set_registers},
    MachineCommandKind{"debug-translate", Turn::kAtOnce, read_translate},
    MachineCommandKind{"debug-read", Turn::kAtOnce, read_read},
    MachineCommandKind{"debug-write", Turn::kAtOnce, read_write},
};

}  // namespace

std::span<const MachineCommandKind> debug_command_kinds() { return kKinds; }

}  // namespace tsvmm

#include "machine/machine_commands.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <utility>

namespace tsvmm {
namespace {

using Turn = MachineCommandKind::Turn;

/// A command without arguments.
template <void (*action)(Machine& machine)>
MachineAction read_plain(Fields& /*fields*/) {
  return [](Machine& machine, Message&, CborWriter&) { action(machine); };
}

MachineAction read_boot(Fields& fields) {
  // Functions are copied, and a specification is not.
  auto spec = std::make_shared<BootSpec>(read_boot_spec(fields["spec"]));
  return [spec](Machine& machine, Message&, CborWriter&) { machine.boot(std::move(*spec)); };
}

MachineAction read_destroy(Fields& fields) {
  std::chrono::milliseconds timeout = Machine::kTimeout;
  if (fields.has("timeoutMs")) {
    timeout = std::chrono::milliseconds(fields["timeoutMs"].narrow<uint32_t>());
  }
  return [timeout](Machine& machine, Message&, CborWriter&) { machine.destroy(timeout); };
}

MachineAction read_plug(Fields& fields) {
  auto spec = std::make_shared<PciFunctionSpec>(read_function_spec(fields["spec"]));
  return [spec](Machine& machine, Message&, CborWriter&) { machine.plug(std::move(*spec)); };
}

MachineAction read_request_unplug(Fields& fields) {
  return [id = fields["device"].text()](Machine& machine, Message&, CborWriter&) {
    machine.request_unplug(id);
  };
}

MachineAction read_finish_unplug(Fields& fields) {
  return [id = fields["device"].text(), force = fields["force"].boolean()](
             Machine& machine, Message&, CborWriter&) { machine.finish_unplug(id, force); };
}

MachineAction read_add_memory(Fields& fields) {
  return [size = fields["size"].number()](Machine& machine, Message&, CborWriter&) {
    machine.add_memory(size);
  };
}

MachineAction read_plug_vcpus(Fields& fields) {
  std::vector<LateVcpu> vcpus;
  fields["vcpus"].each([&](const Value& vcpu) { vcpus.push_back(read_late_vcpu(vcpu)); });
  return [vcpus = std::move(vcpus)](Machine& machine, Message&, CborWriter&) {
    machine.plug_vcpus(vcpus);
  };
}

MachineAction read_request_vcpu_unplug(Fields& fields) {
  return [first = fields["first"].narrow<uint16_t>()](Machine& machine, Message&, CborWriter&) {
    machine.request_vcpu_unplug(first);
  };
}

MachineAction read_set_generation(Fields& fields) {
  return [id = fields["id"].exactly<Machine::kVmGenerationSize>()](
             Machine& machine, Message&, CborWriter&) { machine.set_vm_generation(id); };
}

/// What the arguments are, the device knows: they are read in the command's turn.
MachineAction read_operate(Fields& fields) {
  (void)fields["arguments"];
  return [id = fields["device"].text(), operation = fields["operation"].text()](
             Machine& machine, Message& command, CborWriter& answer) {
    MessageReader reader(command);
    reader.value().map([&](Fields& all) {
      for (const auto* known : {"command", "device", "operation"}) (void)all[known];
      all["arguments"].map(
          [&](Fields& arguments) { machine.operate(id, operation, arguments, answer); });
    });
  };
}

constexpr std::array kKinds{
    MachineCommandKind{"boot", Turn::kOwn, read_boot},
    MachineCommandKind{"pause", Turn::kOwn, read_plain<[](Machine& machine) { machine.pause(); }>},
    MachineCommandKind{"resume", Turn::kOwn,
                       read_plain<[](Machine& machine) { machine.resume(); }>},
    MachineCommandKind{"destroy", Turn::kLast, read_destroy},
    MachineCommandKind{"operate", Turn::kOwn, read_operate},
    MachineCommandKind{"plug", Turn::kOwn, read_plug},
    MachineCommandKind{"request-unplug", Turn::kAtOnce, read_request_unplug},
    MachineCommandKind{"finish-unplug", Turn::kOwn, read_finish_unplug},
    MachineCommandKind{"add-memory", Turn::kOwn, read_add_memory},
    MachineCommandKind{"plug-vcpus", Turn::kOwn, read_plug_vcpus},
    MachineCommandKind{"request-vcpu-unplug", Turn::kAtOnce, read_request_vcpu_unplug},
    MachineCommandKind{"power-button", Turn::kAtOnce,
                       read_plain<[](Machine& machine) { machine.press_power_button(); }>},
    MachineCommandKind{"nmi", Turn::kAtOnce,
                       read_plain<[](Machine& machine) { machine.inject_nmi(); }>},
    MachineCommandKind{"set-generation", Turn::kAtOnce, read_set_generation},
};

const MachineCommandKind* find(std::span<const MachineCommandKind> kinds, std::string_view name) {
  const auto found = std::ranges::find(kinds, name, &MachineCommandKind::name);
  return found == kinds.end() ? nullptr : &*found;
}

}  // namespace

std::span<const MachineCommandKind> machine_command_kinds() { return kKinds; }

MachineCommand::MachineCommand(Message message) : message_(std::move(message)) {
  MessageReader reader(message_);
  reader.value().map([this](Fields& fields) {
    const std::string name = fields["command"].text();
    const MachineCommandKind* kind = find(kKinds, name);
    if (kind == nullptr) kind = find(debug_command_kinds(), name);
    if (kind == nullptr) throw Error("ERR_TSVMM_MESSAGE", "there is no command " + name);
    turn_ = kind->turn;
    action_ = kind->read(fields);
  });
}

namespace {

void write_counters(const std::vector<DeviceCounters>& devices, CborWriter& answer) {
  answer.map(devices.size());
  for (const auto& [id, counters] : devices) {
    answer.key(id).map(counters.size());
    for (const Counter& counter : counters) answer.field(counter.name, counter.value);
  }
}

void write_statistics(const std::vector<VcpuStatistics::Value>& values, CborWriter& answer) {
  answer.map(values.size());
  for (const auto& [name, value] : values) answer.field(name, value);
}

void answer_vcpus(Machine& machine, CborWriter& answer) {
  const std::vector<VcpuStatistics> vcpus = machine.vcpu_statistics();
  answer.array(vcpus.size());
  for (const VcpuStatistics& vcpu : vcpus) {
    answer.map(4).field("index", vcpu.index).field("thread", static_cast<uint64_t>(vcpu.thread));
    write_statistics(vcpu.exits, answer.key("exits"));
    write_statistics(vcpu.hypervisor, answer.key("hypervisor"));
  }
}

void answer_post_codes(Machine& machine, CborWriter& answer) {
  const PostCodeState state = machine.post_code();
  answer.map(2).field("lastPostCode", state.last).field("postCodes", state.count);
}

}  // namespace

void answer_question(Machine& machine, const Value& question, CborWriter& answer) {
  using namespace std::string_view_literals;
  constexpr std::array kQuestions{"counters"sv, "status"sv, "vcpus"sv, "post-codes"sv};
  switch (question.choice(kQuestions)) {
    case 0:
      return write_counters(machine.counters(), answer);
    case 1:
      return write_counters(machine.status(), answer);
    case 2:
      return answer_vcpus(machine, answer);
    default:
      return answer_post_codes(machine, answer);
  }
}

}  // namespace tsvmm

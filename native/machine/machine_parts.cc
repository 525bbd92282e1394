#include "machine/machine_parts.h"

#include <utility>

#include "core/error.h"
#include "core/thread.h"

namespace tsvmm {

MachineParts::~MachineParts() {
  (void)stop(Deadline::never());
  if (vm) vm->begin_teardown();
  // A device's thread may report to the vCPUs until the devices are gone.
  board.reset();
  devices.reset();
  vcpus.reset();
  vm.reset();
  memory.reset();
}

std::vector<std::string> MachineParts::stop(const Deadline& deadline) {
  // vCPUs use the devices until they have left.
  if (vcpus) {
    vcpus->stop();
    if (const auto vcpu = vcpus->wait_left(deadline)) {
      return {"vCPU " + std::to_string(*vcpu) + " does not leave the guest"};
    }
  }
  if (devices) return devices->stop(deadline);
  return {};
}

void MachineParts::leave_behind(std::unique_ptr<MachineParts> parts) noexcept {
  MachineParts* const remains = parts.release();
  try {
    spawn_thread("machine-remains", [remains] { delete remains; }).detach();
  } catch (const Error&) {
    // Then they stay for as long as the process does: the threads that are waited for may use them.
  }
}

}  // namespace tsvmm

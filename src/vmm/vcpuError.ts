/** Messages about a vCPU that cannot go on. */
import type { MachineEvent } from '../native.ts';
import type { Machine } from './machine.ts';

/** Why Linux does not run where KVM has no hardware virtualization under it. */
export const NO_HARDWARE_VIRTUALIZATION =
  "this host's KVM has no hardware virtualization and runs guest kernel code in an instruction emulator, " +
  'which stock Linux kernels do not survive';

type VcpuError = Extract<MachineEvent, { type: 'vcpu-error' }>;

/** As the event monitor tells it. */
export function vcpuErrorTexts({ vcpu, reason, code, detail }: VcpuError): Record<string, string> {
  return { vcpu: String(vcpu), reason, code: String(code), detail };
}

export function describeVcpuError(event: VcpuError, machine: Machine | undefined): string {
  const what = `vCPU ${event.vcpu} stopped with ${event.reason} (${event.code})`;
  const emulated = event.reason === 'internal-error' && machine?.hardwareVirtualization === false;
  return emulated ? `${what}: ${NO_HARDWARE_VIRTUALIZATION}` : `${what}: ${event.detail}`;
}

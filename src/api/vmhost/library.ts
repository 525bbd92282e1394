/** The vmhost protocol for programs: any VM of the library can be served, and any VM's process be asked. */
import { loadNative } from '../../native.ts';
import type { VmhostPaths, VmhostService } from './serve.ts';
import type { ControllableVm, VmControllerOptions } from './vmController.ts';

export { VmhostClient, VmhostError } from './client.ts';
export type { VmhostResponse, VmhostState } from './protocol.ts';
export type { VmhostPaths, VmhostService } from './serve.ts';
export type { ControllableVm, VmControllerOptions } from './vmController.ts';

export type ServeVmhostOptions = VmhostPaths & VmControllerOptions;

/**
 * Answers supervisors that speak the vmhost protocol, until the VM is gone: `status`, `info`, `stop` (the guest's agent
 * on vsock port 1024, then the ACPI power button, then force) and `force_stop`. To be called when the VM is up.
 * @throws VmmError if another process serves the socket, or the socket or the PID file cannot be made
 */
export async function serveVmhost(vm: ControllableVm, options: ServeVmhostOptions): Promise<VmhostService> {
  const { serveVmhost: serve } = await import('./serve.ts');
  const { vmController } = await import('./vmController.ts');
  return serve(loadNative(), vmController(vm, options), options, options);
}

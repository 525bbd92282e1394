/** A VMM that does what a test says. */
import { vi } from 'vitest';
import type { ApiVmm } from '../../../src/api/rest/endpoint.ts';
import { decode } from '../../../src/config/decode.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';

export function fakeVmm() {
  const done = async (): Promise<void> => {};
  return {
    create: vi.fn<ApiVmm['create']>(done),
    delete: vi.fn(done),
    boot: vi.fn(done),
    shutdown: vi.fn(done),
    reboot: vi.fn(done),
    pause: vi.fn(done),
    resume: vi.fn(done),
    powerButton: vi.fn(done),
    nmi: vi.fn(done),
    resize: vi.fn<ApiVmm['resize']>(done),
    resizeDisk: vi.fn<ApiVmm['resizeDisk']>(done),
    resizeZone: vi.fn<ApiVmm['resizeZone']>(done),
    addDevice: vi.fn<ApiVmm['addDevice']>(async () => undefined),
    removeDevice: vi.fn<ApiVmm['removeDevice']>(done),
    snapshot: vi.fn<ApiVmm['snapshot']>(done),
    coredump: vi.fn<ApiVmm['coredump']>(done),
    restore: vi.fn<ApiVmm['restore']>(done),
    sendMigration: vi.fn<ApiVmm['sendMigration']>(done),
    receiveMigration: vi.fn<ApiVmm['receiveMigration']>(done),
    quit: vi.fn(done),
    watchInfo: vi.fn<ApiVmm['watchInfo']>(() => () => {}),
    info: vi.fn<ApiVmm['info']>(() => ({
      config: decode(vmConfig, {}),
      state: 'Created',
      memory_actual_size: 4096,
    })),
    vcpuStatistics: vi.fn<ApiVmm['vcpuStatistics']>(() => []),
    counters: vi.fn<ApiVmm['counters']>(() => ({
      _disk0: { read_latency_min: 18_446_744_073_709_551_615n },
    })),
    countedMachine: undefined as ApiVmm['countedMachine'],
    machineMemory: 4096 as ApiVmm['machineMemory'],
  } satisfies ApiVmm;
}

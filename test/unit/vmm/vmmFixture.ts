/** VMMs on a core that is not one, and all that they tell. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { type VmConfigInput, vmConfig } from '../../../src/config/vmConfig.ts';
import type { MachineEvent } from '../../../src/native.ts';
import type { VmmError } from '../../../src/vmm/errors.ts';
import { Vmm } from '../../../src/vmm/vmm.ts';
import type { VmmOptions } from '../../../src/vmm/vmmOptions.ts';
import { makeElf } from '../platform/support.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

export let folder: string;
export let native: FakeNative;
export let events: string[];
export let warnings: string[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-test-'));
  native = fakeNative(folder);
  events = [];
  warnings = [];
  writeFileSync(join(folder, 'kernel'), makeElf());
});

afterEach(() => {
  expect([...native.files.open]).toEqual([]);
  rmSync(folder, { recursive: true });
});

export function newVmm(options: Partial<VmmOptions> = {}): Vmm {
  return new Vmm({
    native,
    onEvent: ({ source, event, properties }) =>
      events.push(`${source} ${event}${properties ? ` ${Object.values(properties).join(' ')}` : ''}`),
    onWarning: (message) => warnings.push(message),
    ...options,
  });
}

export function config(extra: VmConfigInput = {}) {
  return decode(vmConfig, {
    payload: { kernel: join(folder, 'kernel') },
    console: { mode: 'Off' },
    ...extra,
  });
}

export async function booted(options?: Partial<VmmOptions>, extra?: VmConfigInput): Promise<Vmm> {
  const vmm = newVmm(options);
  await vmm.create(config(extra));
  await vmm.boot();
  return vmm;
}

export async function failure(promise: Promise<unknown>): Promise<VmmError> {
  return promise.then(
    () => {
      throw new Error('succeeded');
    },
    (error) => error,
  );
}

/** What the core reports of the latest machine. */
export function guest(event: MachineEvent): void {
  native.machines.at(-1)?.emit(event);
}

export const VCPU_ERROR = {
  type: 'vcpu-error',
  vcpu: 1,
  reason: 'internal-error',
  code: 1,
  detail: 'rip=0x100',
} as const;

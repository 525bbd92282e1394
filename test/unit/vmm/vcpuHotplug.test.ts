import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished, vi } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { type VmConfigInput, vmConfig } from '../../../src/config/vmConfig.ts';
import type { LateVcpu, MachineEvent } from '../../../src/native.ts';
import { booted, config, events, failure, folder, native, newVmm } from './vmmFixture.ts';

const CPUS: VmConfigInput = {
  cpus: { boot_vcpus: 2, max_vcpus: 8, affinity: [{ vcpu: 3, host_cpus: [0, 1] }] },
};

const calls = () => native.machines.at(-1)?.calls.filter((call) => call !== 'boot');
const tell = (event: MachineEvent) => native.machines.at(-1)?.emit(event);
const start = (vcpu: number) => tell({ type: 'vcpu-started', vcpu });
const eject = (vcpu: number) => tell({ type: 'vcpu-ejected', vcpu });
/** Who watches has heard of what has happened. */
const told = () => new Promise<void>(setImmediate);
/** What has come of a promise by now. */
async function stateOf(promise: Promise<unknown>): Promise<string> {
  const waited = new Promise((resolve) => setTimeout(resolve, 20, 'pending'));
  return Promise.race([promise.then(() => 'done'), waited]) as Promise<string>;
}

describe('vCPUs of a machine that runs', () => {
  it('are added as they would have been at boot', async () => {
    const vmm = await booted({}, CPUS);
    let plugged: readonly LateVcpu[] = [];
    native.onPlugVcpus = (vcpus) => {
      plugged = vcpus;
    };
    await vmm.resize({ desired_vcpus: 5 });
    expect(plugged.map(({ index, id, affinity }) => [index, id, affinity])).toEqual([
      [2, 2, []],
      [3, 3, [0, 1]],
      [4, 4, []],
    ]);
    expect(vmm.info().config.cpus).toMatchObject({ boot_vcpus: 5, max_vcpus: 8 });
    await vmm.reboot();
    const [first, next] = native.machines;
    expect(first?.boot?.cpuHotplug).toMatchObject({ present: 2, most: 8 });
    expect(next?.boot?.cpuHotplug).toMatchObject({ present: 5, most: 8 });
    // What those that came late were given is what they have now.
    expect(next?.spec.vcpus.slice(2)).toEqual(plugged.map(({ index: _, ...vcpu }) => vcpu));
    await vmm.quit();
  });

  it('may be fewer than a device has queues: the VM can be rebooted, and get other devices', async () => {
    for (const name of ['wide', 'other']) writeFileSync(join(folder, name), Buffer.alloc(4096));
    const vmm = await booted({}, { ...CPUS, disks: [{ path: join(folder, 'wide'), num_queues: 2 }] });
    await vmm.resize({ desired_vcpus: 1 });
    eject(1);
    const other = decode(vmConfig.fields.disks.items, { path: join(folder, 'other') }, 'disk');
    expect(await vmm.addDevice('disk', other)).toMatchObject({ id: '_disk1' });
    await vmm.reboot();
    expect(native.machines.at(-1)?.boot?.cpuHotplug).toMatchObject({ present: 1, most: 8 });
    await vmm.resize({ desired_vcpus: 8 });
    await vmm.quit();
  });

  it('are asked for, and the next change waits until the guest has given them up', async () => {
    const vmm = await booted({}, CPUS);
    await vmm.resize({ desired_vcpus: 4 });
    await vmm.resize({ desired_vcpus: 1 });
    expect(calls()).toEqual(['plug-vcpus 2 3', 'request-vcpu-unplug 1']);
    expect(vmm.info().config.cpus.boot_vcpus).toBe(1);
    for (const desired_vcpus of [1, 2, 4, 9]) {
      expect(await failure(vmm.resize({ desired_vcpus }))).toMatchObject({
        kind: 'busy',
        code: 'ERR_TSVMM_BUSY',
        message:
          'The VM could not be resized: The guest was asked before to give up vCPUs 1, 2 and 3, and has not yet',
      });
    }
    eject(3);
    eject(1);
    expect((await failure(vmm.resize({ desired_vcpus: 4 }))).message).toContain('give up vCPU 2, and');
    eject(2);
    await vmm.resize({ desired_vcpus: 4 });
    expect(calls()?.at(-1)).toBe('plug-vcpus 1 2 3');
    expect(events.filter((event) => event.includes('vcpu'))).toEqual([
      'vm vcpu-removed 3',
      'vm vcpu-removed 1',
      'vm vcpu-removed 2',
    ]);
    await vmm.quit();
  });

  it('are waited for, both ways', async () => {
    const vmm = await booted({}, CPUS);
    const added = vmm.resize({ desired_vcpus: 4, wait_ms: 60_000 });
    expect(await stateOf(added)).toBe('pending');
    start(3);
    expect(await stateOf(added)).toBe('pending');
    start(2);
    await added;
    const removed = vmm.resize({ desired_vcpus: 3, wait_ms: 60_000 });
    expect(await stateOf(removed)).toBe('pending');
    eject(3);
    await removed;
    // There is nothing to wait for.
    await vmm.resize({ desired_vcpus: 3, wait_ms: 60_000 });
    await vmm.quit();
  });

  it('are waited for over a reboot, and no longer once there is no machine', async () => {
    const vmm = await booted({}, CPUS);
    const added = vmm.resize({ desired_vcpus: 4, wait_ms: 60_000 });
    expect(await stateOf(added)).toBe('pending');
    await vmm.reboot();
    await added;
    const late = failure(vmm.resize({ desired_vcpus: 5, wait_ms: 60_000 }));
    expect(await stateOf(late)).toBe('pending');
    await vmm.delete();
    expect((await late).cause).toMatchObject({ message: 'VM is not running' });
    await vmm.quit();
  });

  it('may be started while others are asked for', async () => {
    const vmm = await booted({}, CPUS);
    await vmm.resize({ desired_vcpus: 4 });
    native.machineRequestVcpuUnplug = async () => start(2);
    const removed = vmm.resize({ desired_vcpus: 3, wait_ms: 60_000 });
    expect(await stateOf(removed)).toBe('pending');
    eject(3);
    expect(await stateOf(removed)).toBe('done');
    await vmm.quit();
  });

  it('are shown until the guest has done what it was asked for', async () => {
    const vmm = await booted({}, CPUS);
    const pending = () => vmm.info().pending_vcpus;
    expect(pending()).toBeUndefined();
    await vmm.resize({ desired_vcpus: 4 });
    const shown: unknown[] = [];
    const unwatch = vmm.watchInfo(() => shown.push(pending()));
    expect(pending()).toEqual({ starting: [2, 3], leaving: [] });
    start(3);
    await told();
    expect(shown.at(-1)).toEqual({ starting: [2], leaving: [] });
    await vmm.resize({ desired_vcpus: 3 });
    expect(pending()).toEqual({ starting: [2], leaving: [3] });
    start(2);
    eject(3);
    await told();
    expect(shown.at(-1)).toBeUndefined();
    unwatch();
    await vmm.quit();
  });

  it('are not waited for any longer than asked for, and may be again', async () => {
    const vmm = await booted({}, CPUS);
    expect(await failure(vmm.resize({ desired_vcpus: 4, wait_ms: 1 }))).toMatchObject({
      code: 'ERR_TSVMM_TIMEOUT',
      message: 'The VM could not be resized: The guest has not started vCPUs 2 and 3 within 1 ms',
    });
    expect(await failure(vmm.resize({ desired_vcpus: 2, wait_ms: 1 }))).toMatchObject({
      message: 'The VM could not be resized: The guest has not given up vCPUs 2 and 3 within 1 ms',
    });
    const again = vmm.resize({ desired_vcpus: 2, wait_ms: 60_000 });
    expect(await stateOf(again)).toBe('pending');
    expect(calls()).toEqual(['plug-vcpus 2 3', 'request-vcpu-unplug 2', 'request-vcpu-unplug 2']);
    expect((await failure(vmm.resize({ desired_vcpus: 3, wait_ms: 1 }))).kind).toBe('busy');
    eject(2);
    eject(3);
    await again;
    await expect(vmm.resize({ wait_ms: -1 })).rejects.toThrow(RangeError);
    await vmm.quit();
  });

  it('are not waited for after an abort, or after another wait has failed', async () => {
    const vmm = await booted({}, { ...CPUS, balloon: { size: 0 } });
    vi.useFakeTimers();
    onTestFinished(() => void vi.useRealTimers());
    const controller = new AbortController();
    const left = failure(vmm.resize({ desired_vcpus: 4, wait_ms: 60_000 }, controller));
    await vi.waitFor(() => expect(vi.getTimerCount()).toBe(1));
    controller.abort();
    expect((await left).message).toContain('The VM could not be resized: This operation was aborted');
    expect(vi.getTimerCount()).toBe(0);
    const both = failure(vmm.resize({ desired_vcpus: 5, desired_balloon: 4096, wait_ms: 60_000 }));
    await vi.waitFor(() => expect(vi.getTimerCount()).toBe(3));
    // Of the machine after that nobody wants to know how large its balloon is.
    const next = vmm.shutdown().then(() => vmm.boot());
    expect((await both).message).toBe('The VM could not be resized: VM is not running');
    await next;
    expect(vi.getTimerCount()).toBe(0);
    vi.useRealTimers();
    await vmm.quit();
  });

  it('are those of the next machine, which begins with nothing asked for', async () => {
    const vmm = await booted({}, CPUS);
    const removed = vmm.resize({ desired_vcpus: 1, wait_ms: 60_000 });
    expect(await stateOf(removed)).toBe('pending');
    await vmm.reboot();
    await removed;
    expect(native.machines[1]?.spec.vcpus).toHaveLength(1);
    await vmm.resize({ desired_vcpus: 2 });
    // Of the machine that is gone.
    native.machines[0]?.emit({ type: 'vcpu-started', vcpu: 1 });
    expect(await stateOf(vmm.resize({ wait_ms: 60_000 }))).toBe('pending');
    start(1);
    await vmm.quit();
  });

  it('are refused where that cannot be, and nothing is changed', async () => {
    const vmm = await booted({}, CPUS);
    const said = async (desired_vcpus: number) => failure(vmm.resize({ desired_vcpus }));
    expect(await said(0)).toMatchObject({
      kind: 'failed',
      code: 'ERR_TSVMM_CONFIG',
      message: 'The VM could not be resized: A VM has at least one vCPU',
    });
    expect((await said(9)).message).toContain('9 vCPUs are more than cpus.max_vcpus (8)');
    native.onPlugVcpus = () => {
      throw Object.assign(new Error('no memory'), { code: 'ENOMEM' });
    };
    expect(await said(3)).toMatchObject({ kind: 'failed', code: 'ENOMEM' });
    native.host = { ...native.host, maxVcpus: 3 };
    expect((await said(4)).message).toContain("4 vCPUs are more than the 3 that this host's KVM runs");
    expect(vmm.info().config.cpus.boot_vcpus).toBe(2);
    expect(await stateOf(vmm.resize({ wait_ms: 60_000 }))).toBe('done');
    await vmm.quit();
  });

  it('are a number in the configuration before there is a machine', async () => {
    const vmm = newVmm();
    await vmm.create(config(CPUS));
    await vmm.resize({ desired_vcpus: 3, wait_ms: 60_000 });
    await vmm.boot();
    expect(native.machines[0]?.spec.vcpus).toHaveLength(3);
    await vmm.pause();
    await vmm.resize({ desired_vcpus: 4 });
    expect(calls()?.at(-1)).toBe('plug-vcpus 3');
    await vmm.quit();
  });
});

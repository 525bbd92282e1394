import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { makeBzImage } from '../platform/support.ts';

import { booted, events, folder, guest, native, VCPU_ERROR, warnings } from './vmmFixture.ts';

describe('what the guest does', () => {
  it('power-off ends everything with code 0', async () => {
    const vmm = await booted();
    guest({ type: 'power-off' });
    await expect(vmm.exited).resolves.toEqual({ reason: 'power-off', code: 0 });
    expect([vmm.state, native.machines[0]?.calls]).toEqual(['none', ['boot', 'destroy']]);
    expect(events.slice(-3)).toEqual(['vm shutdown', 'vm deleted', 'vmm shutdown']);
  });

  it('a reset that an end calls off is no failure', async () => {
    const vmm = await booted();
    let callOff: (() => void) | undefined;
    native.onCallOff = () => callOff?.();
    native.onBoot = () =>
      new Promise((_, reject) => {
        callOff = () => reject(Object.assign(new Error('called off'), { code: 'ECANCELED' }));
      });
    guest({ type: 'reset', cause: 'i8042' });
    await expect.poll(() => callOff).toBeDefined();
    await vmm.quit();
    expect(await vmm.exited).toEqual({ reason: 'request', code: 0 });
  });

  it('power-off may leave the VM', async () => {
    const vmm = await booted({ stayOnPowerOff: true });
    guest({ type: 'power-off' });
    await expect.poll(() => vmm.info().state).toBe('Created');
    await vmm.boot();
    expect(native.machines).toHaveLength(2);
    await vmm.quit();
  });

  it('power-off of a machine that does not come to its end is told all the same', async () => {
    native.onDestroy = () => {
      throw new Error('_disk0: the host has not answered');
    };
    const vmm = await booted({ stayOnPowerOff: true });
    guest({ type: 'power-off' });
    await expect.poll(() => events.at(-1)).toBe('vm shutdown');
    expect([vmm.info().state, warnings]).toEqual(['Created', ['_disk0: the host has not answered']]);
    await vmm.quit();
  });

  it('power-off before booting has been answered', async () => {
    native.onBoot = (machine) => machine.emit({ type: 'power-off' });
    const vmm = await booted();
    await expect(vmm.exited).resolves.toEqual({ reason: 'power-off', code: 0 });
    expect(events.slice(0, 2)).toEqual(['vm booting', 'vm booted']);
  });

  it('reset builds everything anew', async () => {
    const vmm = await booted();
    guest({ type: 'reset', cause: 'triple-fault' });
    guest({ type: 'reset', cause: 'acpi' });
    await expect.poll(() => events.at(-1)).toBe('vm rebooted');
    expect(vmm.state).toBe('running');
    expect(native.machines.map(({ calls }) => calls)).toEqual([['boot', 'destroy'], ['boot']]);
    guest({ type: 'reset', cause: 'i8042' });
    await expect.poll(() => native.machines.length).toBe(3);
    await vmm.quit();
  });

  it('reset, and a panic, end the VM that is to end on them', async () => {
    const first = await booted({ endOn: ['reset'] });
    guest({ type: 'guest-panic', event: 'panic' });
    guest({ type: 'reset', cause: 'acpi' });
    await expect(first.exited).resolves.toEqual({ reason: 'reset', code: 0 });
    expect(events).toContain('guest reset acpi');
    const second = await booted({ endOn: ['panic'] });
    guest({ type: 'guest-panic', event: 'crash_loaded' });
    guest({ type: 'reset', cause: 'acpi' });
    await expect.poll(() => events.at(-1)).toBe('vm rebooted');
    guest({ type: 'guest-panic', event: 'panic' });
    await expect(second.exited).resolves.toMatchObject({ reason: 'panic', code: 1 });
    expect(native.machines.at(-1)?.calls).toEqual(['boot', 'destroy']);
  });

  it('a restart by the power button ends the VM that is to end on a reset', async () => {
    const vmm = await booted({ endOn: ['reset'] });
    await vmm.restart();
    guest({ type: 'power-off' });
    await expect(vmm.exited).resolves.toEqual({ reason: 'power-off', code: 0 });
  });

  it('reset while paused runs again', async () => {
    const vmm = await booted();
    await vmm.pause();
    guest({ type: 'reset', cause: 'watchdog' });
    await expect.poll(() => vmm.state).toBe('running');
    await vmm.quit();
  });

  it.each(['shutdown', 'delete', 'reboot', 'quit'] as const)(
    'reset that races %s is harmless',
    async (command) => {
      const vmm = await booted();
      const machine = native.machines[0];
      const done = vmm[command]();
      machine?.emit({ type: 'reset', cause: 'acpi' });
      await done;
      machine?.emit({ type: 'power-off' });
      await new Promise((resolve) => setTimeout(resolve, 5));
      expect(native.machines).toHaveLength(command === 'reboot' ? 2 : 1);
      expect(vmm.state).toBe(
        { shutdown: 'created', delete: 'none', reboot: 'running', quit: 'none' }[command],
      );
      await vmm.quit();
    },
  );

  it('reset that cannot be carried out ends with code 1', async () => {
    const vmm = await booted();
    rmSync(join(folder, 'kernel'));
    guest({ type: 'reset', cause: 'acpi' });
    const exit = await vmm.exited;
    expect(exit).toMatchObject({ reason: 'reboot-failed', code: 1 });
    expect(exit.message).toMatch(/^The VM could not reboot: Cannot open kernel file .*\/kernel: ENOENT/);
  });

  it('a person at its terminal can end it', async () => {
    const vmm = await booted();
    guest({ type: 'terminal-escape' });
    await expect(vmm.exited).resolves.toEqual({ reason: 'request', code: 0 });
  });

  it('a warning says that it does not come to its end', async () => {
    native.onDestroy = () => {
      throw new Error('_disk0: the host has not answered');
    };
    const vmm = await booted();
    guest({ type: 'terminal-escape' });
    await expect(vmm.exited).resolves.toMatchObject({ reason: 'request', code: 1, incomplete: true });
    await expect.poll(() => warnings).toEqual([expect.stringContaining('_disk0: the host has not answered')]);
  });

  it('a failing vCPU ends it, saying which', async () => {
    const vmm = await booted();
    guest(VCPU_ERROR);
    await expect(vmm.exited).resolves.toEqual({
      reason: 'vcpu-error',
      code: 1,
      message: 'vCPU 1 stopped with internal-error (1): rip=0x100',
    });
  });

  it('a failing vCPU on a host that emulates is explained', async () => {
    native.host = { ...native.host, hardwareVirtualization: false };
    const vmm = await booted();
    expect(warnings).toEqual([]);
    guest(VCPU_ERROR);
    expect((await vmm.exited).message).toMatch(
      /^vCPU 1 stopped .* no hardware virtualization .* do not survive$/,
    );
  });

  it('Linux on a host that emulates is warned of', async () => {
    native.host = { ...native.host, hardwareVirtualization: false };
    writeFileSync(join(folder, 'kernel'), makeBzImage());
    const vmm = await booted();
    expect(warnings).toEqual([
      expect.stringMatching(/^The guest will probably fail: .* no hardware virtualization/),
    ]);
    await vmm.quit();
  });

  it('a file that does not take what the guest prints is told of by its path', async () => {
    const log = join(folder, 'guest.log');
    const vmm = await booted(undefined, {
      serial: { mode: 'File', file: join(folder, 'serial') },
      console: { mode: 'Tty', log },
    });
    guest({ type: 'output-failed', id: '__serial', file: 'output', reason: 'No space left on device' });
    guest({ type: 'output-failed', id: '__console', file: 'log', reason: 'Input/output error' });
    guest({ type: 'output-failed', id: '__debug_console', file: 'output', reason: 'Disk quota exceeded' });
    await expect.poll(() => warnings.length).toBe(3);
    const rest = 'What the guest prints meanwhile is lost there';
    expect(warnings).toEqual([
      `Cannot write the serial port's output to ${folder}/serial: No space left on device. ${rest}`,
      `Cannot write the console's log to ${log}: Input/output error. ${rest}`,
      `Cannot write the debug console's output: Disk quota exceeded. ${rest}`,
    ]);
    expect(events).toContain('vm output-failed __serial output No space left on device');
    await vmm.quit();
  });

  it('what devices report is passed on', async () => {
    const vmm = await booted();
    guest({ type: 'device-activated', id: '__rng' });
    guest({ type: 'device-reset', id: '__rng' });
    guest({ type: 'device-failed', id: '__rng', reason: 'the ring is bad' });
    guest({ type: 'guest-panic', event: 'crash_loaded' });
    guest({ type: 'guest-panic', event: 'panic' });
    guest({ type: 'firmware-log', line: 'hello' });
    guest({ type: 'device-warning', id: '_disk0', text: 'it fails' });
    expect(events.slice(2)).toEqual([
      'virtio-device activated __rng',
      'virtio-device reset __rng',
      'virtio-device failed __rng the ring is bad',
      'guest panic crash_loaded',
      'guest panic panic',
      'firmware log hello',
      'virtio-device warning _disk0 it fails',
    ]);
    expect(warnings).toEqual([
      'The device __rng stopped: the ring is bad',
      "The guest's kernel failed and goes on with its crash kernel",
      "The guest's kernel panicked",
      'The device _disk0: it fails',
    ]);
    await vmm.quit();
    guest({ type: 'device-activated', id: '__rng' });
    expect(events.at(-1)).toBe('vmm shutdown');
  });
});

describe('counters', () => {
  it.each([
    ['pause', 'machinePause'],
    ['reboot', 'machineDestroy'],
    ['reboot', 'machineBoot'],
  ] as const)('are what they were while %s is in %s', async (command, step) => {
    const vmm = await booted();
    const original = native[step] as (...args: unknown[]) => Promise<void>;
    let entered = () => {};
    let release = () => {};
    const inStep = new Promise<void>((resolve) => {
      entered = resolve;
    });
    native[step] = async (...args: unknown[]) => {
      entered();
      await new Promise<void>((resolve) => {
        release = resolve;
      });
      await original(...args);
    };
    const count = native.machineCounters;
    native.machineCounters = () => ({ _disk0: { read_ops: 2n ** 64n - 1n } });
    const done = vmm[command]();
    await inStep;
    native.machineCounters = () => {
      throw Object.assign(new Error('the machine is being changed'), { code: 'EBUSY' });
    };
    expect(vmm.counters()).toEqual({ _disk0: { read_ops: 2n ** 64n - 1n } });
    native.machineCounters = count;
    native[step] = original;
    release();
    await done;
    expect(vmm.counters()).toEqual({ _disk0: { read_ops: 1n } });
    await vmm.quit();
  });
});

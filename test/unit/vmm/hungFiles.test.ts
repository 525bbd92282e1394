/** Boots of a VM one of whose files does not answer. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { describeError } from '../../../src/vmm/errors.ts';
import type { Vmm } from '../../../src/vmm/vmm.ts';
import { booted, config, failure, folder, native, newVmm } from './vmmFixture.ts';

const NO_ANSWER = 'kernel does not answer';

/** Has the kernel's store hang. @returns what has it answer */
function hang(): () => void {
  const before = native.fileAnswers;
  Object.assign(native, { fileAnswers: (path: string) => !path.endsWith('/kernel') });
  return () => void Object.assign(native, { fileAnswers: before });
}

async function hanging(): Promise<{ readonly vmm: Vmm; readonly boot: Promise<Error> }> {
  const vmm = newVmm();
  await vmm.create(config());
  hang();
  return { vmm, boot: failure(vmm.boot()) };
}

it.each(['delete', 'quit', 'reboot'] as const)(
  '%s calls off a boot that waits, and has its turn',
  async (end) => {
    const { vmm, boot } = await hanging();
    expect(vmm.info().state).toBe('Created');
    const ended = vmm[end]().then(() => 'done', describeError);
    expect(describeError(await boot)).toContain(NO_ANSWER);
    expect(await ended).toBe(end === 'reboot' ? 'The VM could not reboot: VM is not created' : 'done');
    await vmm.quit();
  },
);

it('a boot whose disk has to be waited for is not called off by a reboot behind it', async () => {
  const vmm = newVmm();
  await vmm.create(config());
  setTimeout(hang(), 20);
  const boot = vmm.boot();
  const reboot = vmm.reboot();
  await boot;
  await reboot;
  expect(vmm.state).toBe('running');
  await vmm.quit();
});

it('a start that was called off leaves no machine, and one later succeeds', async () => {
  const { vmm, boot } = await hanging();
  const shutdown = failure(vmm.shutdown());
  await boot;
  await shutdown;
  expect(native.machines.map(({ calls }) => calls.at(-1))).toEqual(['destroy']);
  Object.assign(native, { fileAnswers: () => true });
  await vmm.boot();
  await vmm.quit();
});

it('a reboot waits as well, until another end is asked for', async () => {
  const vmm = await booted();
  const answer = hang();
  const late = vmm.reboot();
  await new Promise((resolve) => setTimeout(resolve, 20));
  answer();
  await late;
  expect(vmm.state).toBe('running');
  hang();
  const reboot = failure(vmm.reboot());
  await vmm.delete();
  expect(describeError(await reboot)).toContain(NO_ANSWER);
  await vmm.quit();
});

it('consoles that go to files are opened when all files answer', async () => {
  const answer = hang();
  const vmm = newVmm();
  const file = join(folder, 'serial');
  writeFileSync(file, 'from before');
  const creation = vmm.create(config({ serial: { mode: 'File', file } }));
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(native.files.open.size).toBe(0);
  answer();
  await creation;
  expect(native.files.open.size).toBe(1);
  await vmm.quit();
});

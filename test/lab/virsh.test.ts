/** Guests of `tsvmmd` that Debian's own virsh looks after: the stock guest, and all of Debian. */
import { expect, test } from 'vitest';
import { guestFiles } from './harness.ts';
import { virshOfLab } from './virsh.ts';

function stockGuest(cmdline: string): string {
  const { vmlinux, initramfs } = guestFiles;
  return `<memory unit='MiB'>256</memory><vcpu>2</vcpu>
    <os><type arch='x86_64'>hvm</type><kernel>${vmlinux}</kernel><initrd>${initramfs}</initrd>
      <cmdline>console=ttyS0 quiet ${cmdline}</cmdline></os>
    <devices><serial type='pty'/></devices>`;
}

test('a domain is started, logged into, suspended, resumed, shut down by its button, and destroyed', async () => {
  const virsh = await virshOfLab();
  await virsh.define('shell', stockGuest(''));
  await virsh.run('start', 'shell');
  const console = virsh.console('shell');
  await console.shows('Escape character');
  await console.shows('is up: 2 vCPU');
  await console.shows('guest# ');
  console.type('echo $((6 * 7)) is $(uname -s)\n');
  await console.shows('42 is Linux');
  await console.shows('guest# ');

  await virsh.run('suspend', 'shell');
  expect(await virsh.run('domstate', '--reason', 'shell')).toBe('paused (user)');
  console.type("echo awake''ned\n");
  await new Promise((resolve) => setTimeout(resolve, 1500));
  expect(console.shown).not.toContain('awake');
  await virsh.run('resume', 'shell');
  await console.shows('awakened');
  await console.leave();
  expect(await virsh.run('domstate', 'shell')).toBe('running');
  await virsh.run('destroy', 'shell');
  await virsh.shutsOff('shell', 'destroyed');

  await virsh.define('button', stockGuest('run=button'));
  await virsh.run('start', 'button');
  const button = virsh.console('button');
  await button.shows('waiting for the power button');
  await virsh.run('shutdown', '--mode', 'acpi', 'button');
  await button.shows('power button pressed');
  await virsh.shutsOff('button', 'shutdown');
  await expect.poll(() => button.closed, { timeout: 60_000 }).toBe(true);
});

/** `tsvmm console` at a stock guest's serial port: one types, another looks on, and the guest never notices. */
import { expect, test } from 'vitest';
import { api, guestFiles, Session, sharedLab, VmmSession } from './harness.ts';

const API = '/run/console-api.sock';
const SERIAL = '/run/console-serial.sock';
const TERMINAL = { rows: 24, columns: 80 };
const DETACH = '\x1d';

test('attached, typed at, shared with one who only reads, left and attached again', async () => {
  const lab = await sharedLab();
  const vmm = new VmmSession(lab, [
    ...['--kernel', guestFiles.vmlinux, '--initramfs', guestFiles.initramfs],
    ...['--cmdline', 'console=ttyS0 quiet', '--memory', 'size=256M'],
    ...['--serial', `socket=${SERIAL}`, '--console', 'off', '--api-socket', API],
  ]);
  const booted = async () => ((await api(lab, API, 'GET', 'vm.info')).body as { state: string }).state;
  await expect.poll(() => booted().catch(() => ''), { timeout: 60_000 }).toBe('Running');
  const attach = (...words: string[]) =>
    new Session(lab, ['/tsvmm/bin/tsvmm', 'console', ...words], { terminal: TERMINAL });

  const person = attach('--api-socket', API, '--serial');
  await person.expect('attached to the serial port of the VM; Ctrl-] or Ctrl-A x detaches');
  await person.type('echo $((6 * 7)) is $(uname -s)');
  await person.expect('42 is Linux');

  const reader = attach('--read-only', '--socket', SERIAL);
  await reader.expect('attached');
  reader.write(Buffer.from('echo not heard\n'));
  await person.type("echo seen by ''both");
  for (const each of [person, reader]) await each.expect('seen by both');
  expect(person.text).not.toContain('not heard');

  // Ctrl-C goes to the guest, whose terminal shows it, and does not end whoever types it.
  await person.type("echo run''ning; sleep 1");
  await person.expect('running');
  person.write(Buffer.from('\x03'));
  await person.expect('^C');
  await person.expect('guest# ');
  person.write(Buffer.from(DETACH));
  expect(await person.exitCode()).toBe(0);
  expect(person.text).toContain('tsvmm: detached');

  const again = attach('--api-socket', API);
  await again.expect('attached');
  again.write(Buffer.from('\n'));
  await again.type('poweroff -f');
  await again.expect('reboot: Power down');
  for (const each of [again, reader]) expect(await each.exitCode()).toBe(0);
  expect(await vmm.exitCode()).toBe(0);
});

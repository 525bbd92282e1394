/** How passt is run: a script in its place says what it was told and does what a test wants. */
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { startPasst } from '../../../src/devices/net/passt.ts';
import { parseForward } from '../../../src/devices/net/userNetwork.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';

const path = process.env.PATH;
let folder: string;
let native: FakeNative;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'tsvmm-passt-'));
  native = fakeNative(folder);
  process.env.PATH = folder;
});

afterEach(() => {
  process.env.PATH = path;
  rmSync(folder, { recursive: true });
});

function passtDoes(script: string): void {
  const file = join(folder, 'passt');
  writeFileSync(file, `#!/bin/sh\nprintf '%s\\n' "$*" >>${folder}/words\n${script}\n`);
  chmodSync(file, 0o755);
}

const words = () => readFileSync(join(folder, 'words'), 'utf8').trim().split('\n');

describe('startPasst', () => {
  test('returns its end of the socket and closes the other', async () => {
    passtDoes('exit 0');
    const fd = await startPasst(native, { forwards: [], mtu: 1400 });
    expect(words()).toHaveLength(1);
    expect(words()[0]).toContain('--fd 3 --no-map-gw');
    expect(words()[0]).toContain('--mtu 1400');
    expect(native.files.open).toEqual(new Set([fd]));
    native.closeFile(fd);
  });

  test('hands over the forwarded ports', async () => {
    passtDoes('exit 0');
    const forwards = ['tcp:2222:22', 'udp:0.0.0.0:53:5353'].map(parseForward);
    native.closeFile(await startPasst(native, { forwards }));
    expect(words()[0]).not.toContain('--no-map-gw');
    expect(words()[0]).toMatch(/--tcp-ports 127\.0\.0\.1\/2222:22 --udp-ports 0\.0\.0\.0\/53:5353$/);
  });

  test('repeats what it says when it fails, without its noise', async () => {
    passtDoes('echo "Failed to send 31 bytes to syslog" >&2; echo "No routable interface" >&2; exit 1');
    await expect(startPasst(native, { forwards: [] })).rejects.toThrow(
      /^The user network does not start: No routable interface$/,
    );
    expect(words()).toHaveLength(1);
    expect(native.files.open.size).toBe(0);
  });

  test('has something to say when it ends without a word', async () => {
    passtDoes('exit 7');
    await expect(startPasst(native, { forwards: [] })).rejects.toThrow('passt ended with exit code 7');
    passtDoes('kill -9 $$');
    await expect(startPasst(native, { forwards: [] })).rejects.toThrow('passt ended with a signal');
  });

  test('waits for a port that the passt before still holds', async () => {
    passtDoes(`[ $(wc -l <${folder}/words) -ge 3 ] || { echo "Failed to bind any port" >&2; exit 1; }`);
    process.env.PATH = `${folder}:${path}`;
    native.closeFile(await startPasst(native, { forwards: [parseForward('tcp:2222:22')] }));
    expect(words()).toHaveLength(3);
    expect(native.files.open.size).toBe(0);
  });

  test('names the port that stays occupied', async () => {
    passtDoes('echo "Failed to bind any port" >&2; exit 1');
    await expect(startPasst(native, { forwards: [parseForward('tcp:2222:22')] })).rejects.toThrow(
      /^A forwarded port \(tcp 127\.0\.0\.1:2222\) cannot be used: Failed to bind any port$/,
    );
    expect(native.files.open.size).toBe(0);
  });

  test('keeps no more than a part of what it says, without controls', async () => {
    passtDoes(`i=0; while [ $i -lt 3000 ]; do printf '\\033[31mno route \\n' >&2; i=$((i+1)); done; exit 1`);
    const error = await startPasst(native, { forwards: [] }).then(
      () => undefined,
      (reason: Error) => reason,
    );
    expect(error?.message).toMatch(
      /^The user network does not start: \\x1b\[31mno route; \\x1b\[31mno route/,
    );
    expect(error?.message.length).toBeLessThan(10_000);
  });

  test('gives it nothing of the environment but where programs are', async () => {
    process.env.TSVMM_TEST_SECRET = 'secret';
    passtDoes(`export -p >${folder}/environment`);
    native.closeFile(await startPasst(native, { forwards: [] }));
    delete process.env.TSVMM_TEST_SECRET;
    // The shell adds PWD and the like, and never a variable of ours.
    const names = [...readFileSync(join(folder, 'environment'), 'utf8').matchAll(/^export (\w+)/gm)];
    expect(names.map(([, name]) => name).filter((name) => name !== 'PWD' && name !== 'OLDPWD')).toEqual([
      'PATH',
    ]);
  });

  test('names the package when it is not there', async () => {
    await expect(startPasst(native, { forwards: [] })).rejects.toThrow(/not installed.*"passt"/);
    expect(native.files.open.size).toBe(0);
  });
});

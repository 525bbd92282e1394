/** The files for distributions, unpacked below a prefix and installed by dpkg, in folders of the test's own. */
import { execFileSync, spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import {
  DEBIAN_PACKAGE,
  DISTRIBUTION_TARBALL,
  SUPERVISOR_SOCKETS,
  supervisorUnit,
} from '../../scripts/lib/distribution.mjs';
import { ROOT } from '../../scripts/lib/paths.mjs';
import { HELLO } from './consumer.ts';

const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-distribution-'));
const { version } = JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8'));

beforeAll(() => {
  spawnSync('make', ['-s', '-C', path.join(ROOT, 'test/guest'), HELLO], { stdio: 'inherit' });
});

afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

function filesBelow(root: string): string[] {
  const names = fs.readdirSync(root, { recursive: true, encoding: 'utf8' });
  return names.filter((name) => !fs.statSync(path.join(root, name)).isDirectory()).sort();
}

/** Of dpkg-query. */
const FORMAT = ['Status', 'Version', 'Depends'].map((field) => `$\{${field}}`).join('|');

/** Below the prefix. */
const FILES = [
  'bin/tsvmm',
  'bin/tsvmmd',
  'lib/systemd/system/tsvmm@.service',
  ...['system', 'user'].flatMap((manager) =>
    ['tsvmmd.service', ...SUPERVISOR_SOCKETS].map((name) => `lib/systemd/${manager}/${name}`),
  ),
  'lib/tsvmm/tsvmm',
  'lib/tsvmm/tsvmm.node',
  'share/bash-completion/completions/tsvmm',
  'share/doc/tsvmm/CHANGELOG.md',
  'share/doc/tsvmm/README.md',
  'share/doc/tsvmm/copyright',
  'share/doc/tsvmm/example.conf',
  'share/fish/vendor_completions.d/tsvmm.fish',
  'share/man/man1/tsvmm.1',
  'share/zsh/site-functions/_tsvmm',
];

/** What the command of an installation does with a guest that says hello; there is no Node.js. */
function startedBelow(prefix: string) {
  const args = ['--kernel', HELLO, '--memory', 'size=64M', '--serial', 'tty', '--console', 'off'];
  const options = { encoding: 'utf8', cwd: folder, env: { PATH: '/nonexistent' } } as const;
  const { status, stdout, stderr } = spawnSync(path.join(prefix, 'bin/tsvmm'), args, options);
  return { status, stdout, stderr };
}

test('the tarball is one folder that works wherever it is unpacked', () => {
  execFileSync('tar', ['xzf', DISTRIBUTION_TARBALL, '-C', folder]);
  const prefix = path.join(folder, `tsvmm-${version}-linux-x64`);
  expect(fs.readdirSync(folder)).toEqual([path.basename(prefix)]);
  expect(filesBelow(prefix)).toEqual(expect.arrayContaining(FILES));
  expect(startedBelow(prefix)).toEqual({ status: 0, stdout: 'hello\n', stderr: '' });
});

test('the manual page and the completions are read without complaint', () => {
  const share = path.join(folder, `tsvmm-${version}-linux-x64`, 'share');
  const page = execFileSync('groff', ['-man', '-Tutf8', '-ww', path.join(share, 'man/man1/tsvmm.1')], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  expect(page).toContain('--kernel');
  execFileSync('bash', ['-n', path.join(share, 'bash-completion/completions/tsvmm')]);
});

test('the Debian package is installed and removed, and leaves nothing', () => {
  const root = path.join(folder, 'root');
  for (const name of ['info', 'updates'])
    fs.mkdirSync(path.join(root, 'var/lib/dpkg', name), { recursive: true });
  for (const name of ['status', 'available']) fs.writeFileSync(path.join(root, 'var/lib/dpkg', name), '');
  // The folder has nothing else in it, so no C library either.
  const dpkg = (...args: string[]) =>
    execFileSync('dpkg', [`--root=${root}`, '--force-depends', ...args], { stdio: 'pipe' });
  dpkg('--install', DEBIAN_PACKAGE);
  expect(filesBelow(path.join(root, 'usr'))).toEqual(expect.arrayContaining(FILES));
  expect(startedBelow(path.join(root, 'usr'))).toEqual({ status: 0, stdout: 'hello\n', stderr: '' });
  const query = ['-W', `--admindir=${root}/var/lib/dpkg`, '-f', FORMAT, 'tsvmm'];
  expect(execFileSync('dpkg-query', query, { encoding: 'utf8' })).toBe(
    `install ok installed|${version}|libc6 (>= 2.34)`,
  );
  dpkg('--purge', 'tsvmm');
  expect(fs.readdirSync(root)).toEqual(['var']);
});

test("everything in the Debian package is root's, and nobody else may write it", () => {
  const listed = execFileSync('dpkg-deb', ['--contents', DEBIAN_PACKAGE], { encoding: 'utf8' })
    .trim()
    .split('\n');
  const others = listed.filter((line) => !/^([d-]rwxr-xr-x|-rw-r--r--) root\/root /.test(line));
  expect(others).toEqual([]);
});

test.each([
  ['system', 'multi-user.target'],
  ['user', 'default.target'],
])("systemd understands the supervisor's units (%s)", (manager, target) => {
  const units = path.join(folder, manager);
  fs.mkdirSync(units);
  // It looks for programs where this machine has them.
  const service = supervisorUnit(target).replace(
    'ExecStart=tsvmmd',
    `ExecStart=${path.join(ROOT, 'bin/tsvmmd')}`,
  );
  fs.writeFileSync(path.join(units, 'tsvmmd.service'), service);
  for (const name of SUPERVISOR_SOCKETS) {
    fs.copyFileSync(path.join(ROOT, 'scripts/distribution', name), path.join(units, name));
  }
  const files = fs.readdirSync(units).map((name) => path.join(units, name));
  const args = [`--${manager}`, 'verify', '--man=no', '--recursive-errors=no', ...files];
  const runtime = { XDG_RUNTIME_DIR: folder };
  const verified = spawnSync('systemd-analyze', args, {
    encoding: 'utf8',
    env: { ...process.env, ...runtime },
  });
  expect({ status: verified.status, said: `${verified.stdout}${verified.stderr}` }).toEqual({
    status: 0,
    said: '',
  });
});

test('systemd understands the unit, and finds it well isolated', () => {
  const unit = path.join(folder, 'tsvmm@.service');
  const source = fs.readFileSync(path.join(ROOT, 'scripts/distribution/tsvmm@.service'), 'utf8');
  // It looks for programs where this machine has them.
  fs.writeFileSync(unit, source.replace('ExecStart=tsvmm', `ExecStart=${path.join(ROOT, 'bin/tsvmm')}`));
  const verified = spawnSync('systemd-analyze', ['verify', '--man=no', '--recursive-errors=no', unit], {
    encoding: 'utf8',
  });
  expect({ status: verified.status, said: `${verified.stdout}${verified.stderr}` }).toEqual({
    status: 0,
    said: '',
  });
  const args = ['security', '--offline=true', '--threshold=30', '--no-pager', unit];
  const { status, stdout, stderr } = spawnSync('systemd-analyze', args, { encoding: 'utf8' });
  expect({ status, end: `${stdout}${stderr}`.slice(-200) }).toMatchObject({ status: 0 });
});

test('the example of a configuration gives the options that it says', () => {
  const example = fs.readFileSync(path.join(ROOT, 'scripts/distribution/example.conf'), 'utf8');
  const settings = Object.fromEntries(
    [...example.matchAll(/^([A-Z]+)="?(.*?)"?$/gm)].map(([, name, value]) => [String(name), String(value)]),
  );
  expect(Object.keys(settings)).toEqual(['KERNEL', 'CMDLINE', 'OPTIONS']);
  const words = ['--kernel', path.join(folder, 'none'), '--cmdline', String(settings.CMDLINE)];
  const { status, stderr } = spawnSync(
    path.join(ROOT, 'bin/tsvmm'),
    [...words, ...String(settings.OPTIONS).split(' '), '--serial', 'tty', '--console', 'off'],
    { encoding: 'utf8', cwd: folder },
  );
  // Options are understood; what is missing are the files.
  expect({ status, stderr }).toEqual({
    status: 1,
    stderr: expect.stringMatching(/No such file|root\.img|none/),
  });
});

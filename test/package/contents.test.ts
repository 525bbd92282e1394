/** What is in the packages, and what they say of themselves. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { alignText } from '../../scripts/lib/alignText.mjs';
import { EXECUTABLE_PACKAGE, EXECUTABLE_TARBALL, PLATFORM, TARBALL } from '../../scripts/lib/pack.mjs';
import { BUILD } from '../../scripts/lib/paths.mjs';
import { toolBin } from '../../scripts/lib/tools.mjs';

const LIBRARY = path.join(BUILD, 'packages/tsvmm');
const EXECUTABLE = path.join(BUILD, 'packages', PLATFORM);

function filesIn(tarball: string): string[] {
  const listed = execFileSync('tar', ['tzf', tarball], { encoding: 'utf8' });
  return listed.trim().split('\n').sort();
}

function manifest(folder: string) {
  return JSON.parse(fs.readFileSync(path.join(folder, 'package.json'), 'utf8'));
}

test('the executable is in a package of its own, on which the library depends where it can be had', () => {
  const { version } = manifest(LIBRARY);
  expect(manifest(LIBRARY).optionalDependencies).toEqual({ [EXECUTABLE_PACKAGE]: version });
  expect(manifest(EXECUTABLE)).toMatchObject({ name: EXECUTABLE_PACKAGE, version });
  expect(filesIn(EXECUTABLE_TARBALL)).toEqual([
    'package/LICENSE',
    'package/README.md',
    'package/THIRD-PARTY-NOTICES.md',
    'package/package.json',
    'package/tsvmm',
    'package/tsvmm.node',
  ]);
  const unpacked = filesIn(TARBALL).map((name) => fs.statSync(name.replace('package', LIBRARY)).size);
  expect(unpacked.reduce((a, b) => a + b)).toBeLessThan(7_000_000);
});

test('the code of the executable is where Linux maps it in pieces of 2 MiB', () => {
  const file = fs.readFileSync(path.join(EXECUTABLE, 'tsvmm'));
  expect(alignText(file)).toBe(file);
});

test.each([LIBRARY, EXECUTABLE])('%s says where it comes from and what it runs on', (folder) => {
  expect(manifest(folder)).toMatchObject({
    license: 'Apache-2.0',
    repository: { type: 'git' },
    homepage: expect.stringContaining('https://'),
    bugs: { url: expect.stringContaining('https://') },
    os: ['linux'],
    cpu: ['x64'],
    libc: ['glibc'],
  });
});

test('nothing runs on installation, and nothing is for developers alone', () => {
  // Without a script of one's own, npm builds whatever has a binding.gyp.
  expect(filesIn(TARBALL)).not.toContain('package/binding.gyp');
  for (const folder of [LIBRARY, EXECUTABLE]) {
    expect(manifest(folder)).not.toHaveProperty('scripts');
    expect(manifest(folder)).not.toHaveProperty('devDependencies');
  }
});

test('the packages name what others wrote, with its licence', () => {
  const named = (folder: string) => {
    const text = fs.readFileSync(path.join(folder, 'THIRD-PARTY-NOTICES.md'), 'utf8');
    return [...text.matchAll(/^## (.*?) (?:\d|\(of)[^\n]*\n\nSPDX: (.+)$/gm)].map(
      ([, name, licence]) => `${name}: ${licence}`,
    );
  };
  const both = [
    'saxes: ISC',
    'smol-toml: BSD-3-Clause',
    'xmlchars: MIT',
    'node-addon-api: MIT',
    'zlib: Zlib',
    'Zstandard: BSD-3-Clause',
    'libstdc++ and libgcc: GPL-3.0-or-later WITH GCC-exception-3.1',
  ];
  expect(named(LIBRARY)).toEqual(both);
  expect(named(EXECUTABLE)).toEqual([...both, 'Bun: MIT']);
});

test('the library has its manual page', () => {
  const { man } = manifest(LIBRARY);
  expect(man).toEqual(['tsvmm.1']);
  expect(fs.readFileSync(path.join(LIBRARY, 'tsvmm.1'), 'utf8')).toContain('.TH');
});

test('links in its documents lead to what is in the package', () => {
  const names = filesIn(TARBALL).map((name) => name.replace('package/', ''));
  const broken = names
    .filter((name) => name.endsWith('.md'))
    .flatMap((name) => {
      const text = fs.readFileSync(path.join(LIBRARY, name), 'utf8');
      const targets = [...text.matchAll(/\]\(([^)\s#]+)[^)]*\)/g)].map(([, target]) => String(target));
      return targets
        .filter((target) => !/^https?:/.test(target))
        .map((target) => path.join(path.dirname(name), target))
        .filter((target) => !names.some((one) => one === target || one.startsWith(`${target}/`)))
        .map((target) => `${name}: ${target}`);
    });
  expect(broken).toEqual([]);
});

describe('the C library', () => {
  /** Of RHEL 9; Debian 12 has 2.36. README.md says so. */
  const OLDEST = 34;

  test.each([
    path.join(LIBRARY, `prebuilds/${PLATFORM}/tsvmm.node`),
    path.join(EXECUTABLE, 'tsvmm.node'),
    path.join(EXECUTABLE, 'tsvmm'),
  ])('of glibc 2.34 is enough for %s', (file) => {
    const symbols = execFileSync('objdump', ['-T', file], { encoding: 'utf8', maxBuffer: 2 ** 26 });
    const versions = [...symbols.matchAll(/\(?GLIBC_2\.(\d+)/g)].map(([, minor]) => Number(minor));
    expect(versions.length).toBeGreaterThan(100);
    expect(Math.max(...versions)).toBeLessThanOrEqual(OLDEST);
  });

  test.each([path.join(LIBRARY, `prebuilds/${PLATFORM}/tsvmm.node`), path.join(EXECUTABLE, 'tsvmm')])(
    'and its loader are all that %s needs',
    (file) => {
      const headers = execFileSync('objdump', ['-p', file], { encoding: 'utf8' });
      const needed = [...headers.matchAll(/NEEDED\s+(\S+)/g)].map(([, name]) => name);
      const parts = ['libc.so.6', 'libm.so.6', 'libdl.so.2', 'libpthread.so.0', 'ld-linux-x86-64.so.2'];
      expect(needed.filter((name) => !parts.includes(String(name)))).toEqual([]);
    },
  );
});

describe('its package.json and its types', () => {
  test('satisfy publint', async () => {
    for (const tarball of [TARBALL, EXECUTABLE_TARBALL]) {
      expect(await complaints('publint', [tarball, '--strict'])).toBe('');
    }
  });

  test('satisfy @arethetypeswrong/cli', async () => {
    expect(await complaints('attw', [TARBALL])).toBe('');
  });

  /** What the tool printed if it failed. */
  async function complaints(tool: string, args: readonly string[]): Promise<string> {
    try {
      execFileSync(await toolBin(tool), args, { encoding: 'utf8', stdio: 'pipe' });
      return '';
    } catch (error) {
      const { stdout, stderr } = error as { stdout: string; stderr: string };
      return `${stdout}${stderr}`;
    }
  }
});

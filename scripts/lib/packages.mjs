/** What the project's commands need from Debian and from npm, and how they get it. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from './exec.mjs';
import { ROOT } from './paths.mjs';
import { Failure, say, step } from './progress.mjs';

/**
 * The one list of Debian packages: what each is for, and a file or command that shows that it is there.
 * `group` names the commands that need it.
 *
 * @type {readonly {package: string, probe: string, why: string, group: Group}[]}
 */
const DEBIAN_PACKAGES = [
  { package: 'g++', probe: 'g++', why: 'compiles the native core', group: 'build' },
  { package: 'make', probe: 'make', why: 'runs the compiler', group: 'build' },
  { package: 'cmake', probe: 'cmake', why: 'configures the native build', group: 'build' },
  {
    package: 'zlib1g-dev',
    probe: '/usr/include/zlib.h',
    why: 'compressed clusters of qcow2 images',
    group: 'build',
  },
  {
    package: 'libzstd-dev',
    probe: '/usr/include/zstd.h',
    why: 'compressed clusters of qcow2 images',
    group: 'build',
  },
  { package: 'e2fsprogs', probe: 'mke2fs', why: 'makes disk images', group: 'guest' },
  { package: 'qemu-system-x86', probe: 'qemu-system-x86_64', why: 'emulates the lab host', group: 'lab' },
  {
    package: 'qemu-utils',
    probe: 'qemu-img',
    why: 'makes and checks disk images of every format',
    group: 'test',
  },
  { package: 'iproute2', probe: 'ip', why: 'network namespaces and taps of the tests', group: 'test' },
  { package: 'zsh', probe: 'zsh', why: 'tries its completions', group: 'test' },
  { package: 'fish', probe: 'fish', why: 'tries its completions', group: 'test' },
  { package: 'groff-base', probe: 'groff', why: 'reads the manual page', group: 'test' },
  { package: 'systemd', probe: 'systemd-analyze', why: 'checks the service unit', group: 'test' },
  { package: 'acpica-tools', probe: 'iasl', why: 'checks the ACPI tables', group: 'test' },
  { package: 'clang', probe: 'clang++', why: 'builds the sanitizer tests', group: 'test' },
  {
    package: 'libclang-rt-14-dev',
    probe: '/usr/lib/llvm-14/lib/clang/14.0.6/lib/linux/libclang_rt.asan-x86_64.a',
    why: 'the sanitizers themselves',
    group: 'test',
  },
  {
    package: 'g++-aarch64-linux-gnu',
    probe: 'aarch64-linux-gnu-g++',
    why: 'compiles what of the native core belongs to every architecture',
    group: 'test',
  },
  { package: 'clang-tidy', probe: 'clang-tidy', why: 'lints C++', group: 'test' },
  { package: 'clang-format', probe: 'clang-format', why: 'checks the layout of C++', group: 'test' },
  {
    package: 'libvirt-clients',
    probe: 'virsh',
    why: 'a client of libvirt that nobody here wrote',
    group: 'test',
  },
  {
    package: 'libvirt-daemon',
    probe: 'libvirtd',
    why: 'a daemon of libvirt that nobody here wrote',
    group: 'test',
  },
  {
    package: 'virtinst',
    probe: 'virt-install',
    why: 'another client of libvirt that nobody here wrote',
    group: 'test',
  },
  {
    package: 'openssh-server',
    probe: 'sshd',
    why: 'a way to a daemon on another host',
    group: 'test',
  },
  {
    package: 'libxml2-utils',
    probe: 'xmllint',
    why: "checks domain documents by libvirt's schema",
    group: 'test',
  },
  {
    package: 'openssl',
    probe: 'openssl',
    why: "a certificate authority for libvirt's clients",
    group: 'test',
  },
  {
    package: 'netcat-openbsd',
    probe: 'nc',
    why: "what libvirt's clients run at the other end of SSH",
    group: 'test',
  },
  {
    package: 'mmdebstrap',
    probe: 'mmdebstrap',
    why: "makes the disk of README's first example",
    group: 'test',
  },
  { package: 'passt', probe: 'passt', why: 'user networking', group: 'test' },
  { package: 'libgtest-dev', probe: '/usr/include/gtest/gtest.h', why: 'the C++ unit tests', group: 'test' },
];

/** @typedef {'build' | 'guest' | 'lab' | 'test'} Group */

/** @param {string} name */
export function hasCommand(name) {
  const folders = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin'];
  return folders.some((folder) => fs.existsSync(path.join(folder, name)));
}

/** @param {string} probe a command's name or an absolute path */
function isThere(probe) {
  return probe.startsWith('/') ? fs.existsSync(probe) : hasCommand(probe);
}

/**
 * Installs the Debian packages of these groups that are missing, saying which and why. Not being root, it names the
 * command instead.
 *
 * @param {readonly Group[]} groups
 */
export async function ensureDebianPackages(groups) {
  const missing = DEBIAN_PACKAGES.filter((one) => groups.includes(one.group) && !isThere(one.probe));
  if (missing.length === 0) return;
  const names = missing.map((one) => one.package);
  if (process.getuid?.() !== 0 || !isThere('apt-get')) {
    throw new Failure(`these Debian packages are missing: run 'apt-get install ${names.join(' ')}' as root`);
  }
  for (const one of missing) say(`  ${one.package}: ${one.why}`);
  await step(`installing ${names.length} Debian packages`, async (detail) => {
    await aptUpdate(detail);
    await run('apt-get', ['install', '-y', '--no-install-recommends', ...names], {
      env: { DEBIAN_FRONTEND: 'noninteractive' },
      onLine: detail,
    });
  });
}

let updated = false;

/**
 * Fetches the package lists, once a run.
 *
 * @param {(line: string) => void} [onLine]
 */
export async function aptUpdate(onLine) {
  if (updated) return;
  await run('apt-get', ['update', '-q'], { ...(onLine && { onLine }) });
  updated = true;
}

/** Installs the npm packages that the lock file names, unless they are there already. */
export async function ensureNodeModules() {
  const lock = path.join(ROOT, 'package-lock.json');
  const installed = path.join(ROOT, 'node_modules/.installed-lock.json');
  const wanted = fs.readFileSync(lock);
  if (fs.existsSync(installed) && fs.readFileSync(installed).equals(wanted)) return;
  await step('installing npm packages', async (detail) => {
    // `npm ci` starts by deleting everything, which whoever runs something else here would notice.
    const command = fs.existsSync(installed) ? ['install', '--no-save'] : ['ci'];
    await run('npm', [...command, '--no-progress'], { cwd: ROOT, onLine: detail });
  });
  fs.writeFileSync(installed, wanted);
}

/** Files for distributions: one tree below a prefix, as a tarball and as a Debian package. */
import fs from 'node:fs';
import path from 'node:path';
import { run } from './exec.mjs';
import { bunComponent, components, notices } from './licences.mjs';
import { ADDON, BUILD, EXECUTABLE, LAUNCHER, ROOT, SUPERVISOR } from './paths.mjs';

const STAGE = path.join(BUILD, 'distribution');
const SOURCES = path.join(ROOT, 'scripts/distribution');

/** The architecture as Debian and tarballs name it. */
const DEBIAN_ARCHITECTURE = process.arch === 'x64' ? 'amd64' : process.arch;

/** Where completions of the shells are looked for below a prefix. */
const COMPLETIONS = /** @type {const} */ ({
  bash: 'share/bash-completion/completions/tsvmm',
  zsh: 'share/zsh/site-functions/_tsvmm',
  fish: 'share/fish/vendor_completions.d/tsvmm.fish',
});

/** Service managers that tsvmmd has units for, and what starts it with them. */
const SUPERVISOR_TARGETS = /** @type {const} */ ({ system: 'multi-user.target', user: 'default.target' });

export const SUPERVISOR_SOCKETS = ['tsvmmd.socket', 'tsvmmd-libvirt.socket', 'tsvmmd-libvirt-ro.socket'];

/** @param {string} target what starts it */
export function supervisorUnit(target) {
  const source = fs.readFileSync(path.join(SOURCES, 'tsvmmd.service'), 'utf8');
  return source.replace('@WANTED_BY@', target);
}

/** Where the tarball goes; its one folder is to be unpacked into a prefix such as /usr/local. */
export const DISTRIBUTION_TARBALL = path.join(BUILD, `tsvmm-linux-${process.arch}.tar.gz`);

export const DEBIAN_PACKAGE = path.join(BUILD, `tsvmm_${DEBIAN_ARCHITECTURE}.deb`);

/** What the distribution's files are made of, besides the executable, the addon and the launcher. */
export const DISTRIBUTION_INPUTS = ['scripts/distribution', 'scripts/lib/distribution.mjs'];

/**
 * Makes both from what was built.
 *
 * @param {Record<string, any>} manifest our package.json
 */
export async function makeDistribution(manifest) {
  fs.rmSync(STAGE, { recursive: true, force: true });
  const root = path.join(STAGE, 'root');
  const prefix = path.join(root, 'usr');
  await fillPrefix(prefix);
  await Promise.all([makeTarball(prefix, manifest.version), makeDebianPackage(root, manifest)]);
}

/** @param {string} prefix */
async function fillPrefix(prefix) {
  const put = (/** @type {string} */ name, /** @type {string} */ source, mode = 0o644) => {
    write(path.join(prefix, name), fs.readFileSync(source), mode);
  };
  put('bin/tsvmm', LAUNCHER, 0o755);
  put('bin/tsvmmd', SUPERVISOR, 0o755);
  put('lib/tsvmm/tsvmm', EXECUTABLE, 0o755);
  put('lib/tsvmm/tsvmm.node', ADDON);
  put('lib/systemd/system/tsvmm@.service', path.join(SOURCES, 'tsvmm@.service'));
  for (const [manager, target] of Object.entries(SUPERVISOR_TARGETS)) {
    const folder = path.join(prefix, 'lib/systemd', manager);
    write(path.join(folder, 'tsvmmd.service'), supervisorUnit(target));
    for (const name of SUPERVISOR_SOCKETS) {
      write(path.join(folder, name), fs.readFileSync(path.join(SOURCES, name)));
    }
  }
  put('share/doc/tsvmm/example.conf', path.join(SOURCES, 'example.conf'));
  for (const name of ['README.md', 'CHANGELOG.md', 'CONTRIBUTING.md']) {
    put(`share/doc/tsvmm/${name}`, path.join(ROOT, name));
  }
  for (const name of fs.readdirSync(path.join(ROOT, 'docs'))) {
    const file = path.join(ROOT, 'docs', name);
    if (fs.statSync(file).isFile()) put(`share/doc/tsvmm/docs/${name}`, file);
  }
  const licence = fs.readFileSync(path.join(ROOT, 'LICENSE'), 'utf8');
  const others = notices([...components(), bunComponent()]);
  write(path.join(prefix, 'share/doc/tsvmm/copyright'), `${licence}\n\n${others}`);
  write(path.join(prefix, 'share/man/man1/tsvmm.1'), await manPage());
  for (const [shell, name] of Object.entries(COMPLETIONS)) {
    write(path.join(prefix, name), await printed('--completions', shell));
  }
}

/** The manual page, as the executable writes it. */
export function manPage() {
  return printed('--man');
}

/** @param {...string} args */
async function printed(...args) {
  const { stdout } = await run(EXECUTABLE, args);
  return stdout;
}

/**
 * @param {string} file
 * @param {string | Uint8Array} content
 * @param {number} [mode]
 */
function write(file, content, mode = 0o644) {
  fs.mkdirSync(path.dirname(file), { recursive: true });
  fs.writeFileSync(file, content, { mode });
  // Whatever the umask is.
  fs.chmodSync(file, mode);
}

/**
 * @param {string} prefix
 * @param {string} version
 */
async function makeTarball(prefix, version) {
  const name = `tsvmm-${version}-linux-${process.arch}`;
  await run('tar', [
    ...['--create', '--gzip', '--file', DISTRIBUTION_TARBALL, '--directory', path.dirname(prefix)],
    ...['--sort=name', '--owner=0', '--group=0', '--numeric-owner', '--mode=go=rX,u+rw'],
    ...[`--transform=s,^usr,${name},`, 'usr'],
  ]);
}

/**
 * @param {string} root folder that has the prefix as `usr`
 * @param {Record<string, any>} manifest
 */
async function makeDebianPackage(root, { version, description, homepage, bugs }) {
  const { stdout } = await run('du', ['--summarize', '--block-size=1K', path.join(root, 'usr')]);
  const control = {
    Package: 'tsvmm',
    Version: version,
    Architecture: DEBIAN_ARCHITECTURE,
    Maintainer: `The maintainers of tsvmm <${bugs.url}>`,
    'Installed-Size': String(Number.parseInt(stdout, 10)),
    Depends: 'libc6 (>= 2.34)',
    Recommends: 'passt',
    Section: 'admin',
    Priority: 'optional',
    Homepage: homepage,
    Description: description,
  };
  const fields = Object.entries(control).map(([name, value]) => `${name}: ${value}\n`);
  write(path.join(root, 'DEBIAN/control'), fields.join(''));
  // Of Debian 12 and later, which the C library demands anyway; a tenth of xz's time.
  await run('dpkg-deb', ['--root-owner-group', '-Zzstd', '-z3', '--build', root, DEBIAN_PACKAGE]);
}

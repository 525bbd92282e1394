/** The npm packages (the library, and for each platform the standalone executable) and the files for distributions. */
import fs from 'node:fs';
import path from 'node:path';
import { buildAll } from './build.mjs';
import {
  DEBIAN_PACKAGE,
  DISTRIBUTION_INPUTS,
  DISTRIBUTION_TARBALL,
  makeDistribution,
  manPage,
} from './distribution.mjs';
import { run } from './exec.mjs';
import { bunComponent, checkLicences, components, notices } from './licences.mjs';
import { ADDON, BUILD, EXECUTABLE, ROOT } from './paths.mjs';
import { step } from './progress.mjs';
import { unlessFresh } from './stamp.mjs';

/** Below it a folder for each package, as it is packed. */
const STAGE = path.join(BUILD, 'packages');

/** As Node.js names it, and npm packages for one platform end. */
export const PLATFORM = `${process.platform}-${process.arch}`;

/** The package that has the executable of this platform; the launcher looks for it by that name. */
export const EXECUTABLE_PACKAGE = `@tsvmm/${PLATFORM}`;

/** Where `npm install` takes the library from. */
export const TARBALL = path.join(BUILD, 'tsvmm.tgz');

/** Where it takes the executable of this platform from. */
export const EXECUTABLE_TARBALL = path.join(BUILD, `tsvmm-${PLATFORM}.tgz`);

/** All that packageTarballs() makes. */
export const PACKAGES = [TARBALL, EXECUTABLE_TARBALL, DISTRIBUTION_TARBALL, DEBIAN_PACKAGE];

const NOTICES = 'THIRD-PARTY-NOTICES.md';
const MAN_PAGE = 'tsvmm.1';

/** What of our package.json is for developers alone. */
const DEVELOPERS_FIELDS = ['scripts', 'devDependencies', 'allowScripts', 'binary'];

/** What both packages say of themselves in the same words. */
const SHARED_FIELDS = ['version', 'license', 'homepage', 'repository', 'bugs', 'os', 'cpu', 'libc'];

/** Builds everything and packs it. */
export async function packageTarballs() {
  await buildAll();
  const inputs = [
    ...['dist', 'package.json', 'README.md', 'LICENSE', ...ourPackageJson().files],
    ...['scripts/lib/pack.mjs', 'scripts/lib/licences.mjs', ...DISTRIBUTION_INPUTS],
  ];
  await unlessFresh('tarballs', { inputs, outputs: PACKAGES }, () =>
    step('packing', async () => {
      checkLicences(components());
      fs.rmSync(STAGE, { recursive: true, force: true });
      await Promise.all([
        pack(await stageLibrary(), TARBALL),
        pack(stageExecutable(), EXECUTABLE_TARBALL),
        makeDistribution(ourPackageJson()),
      ]);
    }),
  );
}

/** @returns {Record<string, any>} */
function ourPackageJson() {
  return JSON.parse(fs.readFileSync(path.join(ROOT, 'package.json'), 'utf8'));
}

/** The library with its addon, where node-gyp-build looks for it, and the command. */
async function stageLibrary() {
  const folder = path.join(STAGE, 'tsvmm');
  const ours = ourPackageJson();
  const fields = Object.entries(ours).filter(([name]) => !DEVELOPERS_FIELDS.includes(name));
  const files = ours.files.filter((/** @type {string} */ name) => fs.existsSync(path.join(ROOT, name)));
  copyFiles(folder, [...files, 'README.md', 'LICENSE']);
  const prebuilt = path.join(folder, `prebuilds/${PLATFORM}/tsvmm.node`);
  fs.mkdirSync(path.dirname(prebuilt), { recursive: true });
  fs.copyFileSync(ADDON, prebuilt);
  fs.writeFileSync(path.join(folder, NOTICES), notices(components()));
  fs.writeFileSync(path.join(folder, MAN_PAGE), await manPage());
  writeJson(path.join(folder, 'package.json'), {
    ...Object.fromEntries(fields),
    files: [...ours.files, NOTICES, MAN_PAGE],
    man: [MAN_PAGE],
    // Of exactly this version: the two are one program.
    optionalDependencies: { [EXECUTABLE_PACKAGE]: ours.version },
  });
  return folder;
}

/** The executable with the addon that it loads from beside itself. */
function stageExecutable() {
  const folder = path.join(STAGE, PLATFORM);
  const ours = ourPackageJson();
  copyFiles(folder, ['LICENSE']);
  for (const file of [EXECUTABLE, ADDON]) fs.copyFileSync(file, path.join(folder, path.basename(file)));
  writeJson(path.join(folder, 'package.json'), {
    name: EXECUTABLE_PACKAGE,
    description: `The standalone executable of tsvmm for ${PLATFORM}; install tsvmm, which brings it`,
    ...Object.fromEntries(SHARED_FIELDS.map((name) => [name, ours[name]])),
    files: [path.basename(EXECUTABLE), path.basename(ADDON), NOTICES],
  });
  fs.writeFileSync(path.join(folder, NOTICES), notices([...components(), bunComponent()]));
  fs.writeFileSync(
    path.join(folder, 'README.md'),
    `# ${EXECUTABLE_PACKAGE}\n\nThe standalone executable of the virtual machine monitor tsvmm for ${PLATFORM}. ` +
      'The package [tsvmm](https://www.npmjs.com/package/tsvmm) runs it: install that.\n',
  );
  return folder;
}

/**
 * @param {string} folder
 * @param {readonly string[]} names of files and folders in the checkout
 */
function copyFiles(folder, names) {
  for (const name of names) fs.cpSync(path.join(ROOT, name), path.join(folder, name), { recursive: true });
}

/**
 * @param {string} file
 * @param {unknown} value
 */
function writeJson(file, value) {
  fs.writeFileSync(file, `${JSON.stringify(value, null, 2)}\n`);
}

/**
 * @param {string} folder
 * @param {string} tarball
 */
async function pack(folder, tarball) {
  const into = `${folder}.packed`;
  fs.mkdirSync(into);
  await run('npm', ['pack', '--silent', '--ignore-scripts', '--pack-destination', into], { cwd: folder });
  fs.renameSync(path.join(into, String(fs.readdirSync(into)[0])), tarball);
}

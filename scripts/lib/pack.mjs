/** The npm package: prebuilt addon, bundles and executable in one tarball. */
import fs from 'node:fs';
import path from 'node:path';
import { buildAll } from './build.mjs';
import { NATIVE_INPUTS } from './buildNative.mjs';
import { run } from './exec.mjs';
import { ensureDebianPackages } from './packages.mjs';
import { BUILD, nodeBin, ROOT } from './paths.mjs';
import { Failure, step } from './progress.mjs';
import { unlessFresh } from './stamp.mjs';

const PREBUILD = path.join(ROOT, 'prebuilds/linux-x64/tsvmm.node');

/** Where the tarball goes. */
export const TARBALL = path.join(BUILD, 'tsvmm.tgz');

/** Where Node.js keeps its headers, so that node-gyp need not download them: beside the binary, if they are there. */
function headersFolder() {
  const prefix = path.resolve(fs.realpathSync(process.execPath), '../..');
  return fs.existsSync(path.join(prefix, 'include/node/node_api.h')) ? prefix : undefined;
}

/** A copy of what node-gyp builds: it empties `build/` beside binding.gyp, where ours has other things. */
function stageSources() {
  const stage = path.join(BUILD, 'prebuild');
  fs.rmSync(stage, { recursive: true, force: true });
  for (const name of ['package.json', 'binding.gyp', 'native']) {
    fs.cpSync(path.join(ROOT, name), path.join(stage, name), { recursive: true });
  }
  return stage;
}

/** Builds prebuilds/, what node-gyp-build finds in an installed package. */
export async function buildPrebuild() {
  await unlessFresh('prebuild', { inputs: [...NATIVE_INPUTS, 'binding.gyp'], outputs: [PREBUILD] }, () =>
    step('building the prebuilt addon', async (detail) => {
      await ensureDebianPackages(['build', 'test']);
      const headers = headersFolder();
      await run(nodeBin('prebuildify'), ['--napi', '--strip', '--name', 'tsvmm', '--out', ROOT], {
        cwd: stageSources(),
        env: { npm_config_jobs: 'max', ...(headers && { npm_config_nodedir: headers }) },
        onLine: detail,
      });
      if (!fs.existsSync(PREBUILD)) throw new Failure(`prebuildify left no ${PREBUILD}`);
    }),
  );
}

/** Builds everything and packs it. */
export async function packageTarball() {
  await buildAll();
  await buildPrebuild();
  const inputs = ['dist', 'prebuilds', 'bin', 'package.json', 'README.md', 'CHANGELOG.md', 'LICENSE'];
  await unlessFresh('tarball', { inputs, outputs: [TARBALL] }, () =>
    step('packing', async () => {
      const args = ['pack', '--silent', '--ignore-scripts', '--pack-destination', BUILD];
      const { stdout } = await run('npm', args, { cwd: ROOT });
      fs.renameSync(path.join(BUILD, String(stdout.trim().split('\n').pop())), TARBALL);
    }),
  );
}

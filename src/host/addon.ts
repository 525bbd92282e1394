/** Finds and loads the C++ addon. */
import { bun } from './bun.ts';

const ADDON = 'tsvmm.node';

/**
 * Loads `tsvmm.node`: for the standalone executable the one beside it; for the package the developer's build in `dist/`,
 * else whatever `node-gyp-build` finds (a prebuilt binary of this platform).
 * @throws Error `ERR_TSVMM_ADDON` if there is none or it does not load
 */
export function loadAddon(): unknown {
  if (bun?.isStandaloneExecutable) {
    const { execPath } = process;
    return (
      loadFile(`${execPath.slice(0, execPath.lastIndexOf('/') + 1)}${ADDON}`) ?? fail('beside the executable')
    );
  }
  const root = packageRoot();
  return loadFile(`${root}dist/${ADDON}`) ?? loadPrebuilt(root) ?? fail(`in ${root}`);
}

/** With a slash at the end. Source files (src/host/) and bundles (dist/js/) are both two folders deep. */
function packageRoot(): string {
  return decodeURIComponent(new URL('../..', `${new URL('.', import.meta.url)}`).pathname);
}

/** Undefined if there is no such file. */
function loadFile(path: string): unknown {
  const module = { exports: {} };
  try {
    process.dlopen(module, path);
    return module.exports;
  } catch (error) {
    if (isMissingFile(error, path)) return undefined;
    throw addonError(`The addon ${path} cannot be loaded: ${(error as Error).message}`);
  }
}

function isMissingFile(error: unknown, path: string): boolean {
  const { message } = error as Error;
  return message.includes(path) && message.includes('No such file or directory');
}

function loadPrebuilt(root: string): unknown {
  const { createRequire } = process.getBuiltinModule('node:module');
  const require = createRequire(`${root}package.json`);
  try {
    return require('node-gyp-build')(root);
  } catch (error) {
    const { message } = error as Error;
    if (
      message.startsWith('No native build was found') ||
      message.startsWith("Cannot find module 'node-gyp-build'")
    ) {
      return undefined;
    }
    throw addonError(`The addon cannot be loaded: ${message}`);
  }
}

function fail(place: string): never {
  throw addonError(
    `The addon ${ADDON} was not found ${place}: there is no prebuilt one for ${process.platform}-${process.arch}, or it was not built`,
  );
}

function addonError(message: string): Error {
  return Object.assign(new Error(message), { code: 'ERR_TSVMM_ADDON' });
}

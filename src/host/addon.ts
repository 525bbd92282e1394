/** Finds and loads the C++ addon. */
import { bun } from './bun.ts';

const PACKAGE = 'tsvmm';
const ADDON = 'tsvmm.node';

/**
 * Loads `tsvmm.node`: for the standalone executable the one beside it; for the package the developer's build in
 * `dist/`, else whatever `node-gyp-build` finds (a prebuilt binary of this platform). A bundle that has this file in it
 * loads that of the package which is installed where the bundle is.
 * @throws Error `ERR_TSVMM_ADDON` if there is none or it does not load
 */
export function loadAddon(): unknown {
  if (bun?.isStandaloneExecutable) {
    const folder = process.execPath.slice(0, process.execPath.lastIndexOf('/') + 1);
    return loadFile(`${folder}${ADDON}`) ?? fail(`beside the executable, in ${folder}`, notCopied());
  }
  const url = ownUrl();
  if (url === undefined) return fail('because a bundler has left out where this file is', BUNDLED);
  const root = ownRoot(url);
  return loadFrom(root) ?? loadInstalled(url) ?? fail(`in ${root}`, isPackage(root) ? missing() : BUNDLED);
}

function missing(): string {
  return `there is no prebuilt one for ${process.platform}-${process.arch}, or it was not built`;
}

function notCopied(): string {
  return `copy it there from prebuilds/${process.platform}-${process.arch} of the package ${PACKAGE}`;
}

const BUNDLED = `${PACKAGE} has become part of a bundle: tell the bundler that "${PACKAGE}" is external, and install it where the bundle runs`;

/** Of this file, or of the bundle that it has become part of. */
function ownUrl(): string | undefined {
  // Bundles that are CommonJS modules may have no import.meta, but a file name.
  const url = import.meta.url as string | undefined;
  if (url !== undefined) return url;
  return typeof __filename === 'string' ? `file://${encodeURI(__filename)}` : undefined;
}

/** With a slash at the end. Source files (src/host/) and our bundles (dist/js/) are both two folders deep. */
function ownRoot(url: string): string {
  return decodeURIComponent(new URL('../..', url.slice(0, url.lastIndexOf('/') + 1)).pathname);
}

function isPackage(root: string): boolean {
  try {
    return requireFrom(root)('./package.json').name === PACKAGE;
  } catch {
    return false;
  }
}

function requireFrom(urlOrFolder: string): NodeJS.Require {
  return process.getBuiltinModule('node:module').createRequire(urlOrFolder);
}

/** From the package's folder; undefined if it has none. */
function loadFrom(root: string): unknown {
  return loadFile(`${root}dist/${ADDON}`) ?? loadPrebuilt(root);
}

/** From the package that a program at this URL would import; undefined if there is none. */
function loadInstalled(url: string): unknown {
  const manifest = `${PACKAGE}/package.json`;
  try {
    const file = requireFrom(url).resolve(manifest);
    return loadFrom(file.slice(0, file.lastIndexOf('/') + 1));
  } catch (error) {
    if ((error as Error).message.includes(`'${manifest}'`)) return undefined;
    throw error;
  }
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
  try {
    return requireFrom(root)('node-gyp-build')(root);
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

function fail(place: string, why: string): never {
  throw addonError(`The addon ${ADDON} was not found ${place}: ${why}`);
}

function addonError(message: string): Error {
  return Object.assign(new Error(message), { code: 'ERR_TSVMM_ADDON' });
}

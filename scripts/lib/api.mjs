/** The library's public face: a report of its declarations, by which changes are noticed, and a reference to read. */
import fs from 'node:fs';
import path from 'node:path';
import { ENTRIES } from './buildJs.mjs';
import { run } from './exec.mjs';
import { BUILD, DIST, ROOT } from './paths.mjs';
import { toolBin } from './tools.mjs';

/** @param {string} entry */
const declarations = (entry) => path.join(DIST, `js/types/esm/${entry}.d.ts`);
const DECLARATIONS = ENTRIES.map(declarations);
const WORK = path.join(BUILD, 'api');

/** Of each entry of the package: its name, and the report that was accepted last. */
export const ACCEPTED_REPORTS = ENTRIES.map((entry) => {
  const name = entry === 'index' ? 'tsvmm' : `tsvmm-${entry}`;
  return { entry, file: path.join(ROOT, `docs/${name}.api.md`) };
});

/** The folder with the reference; index.html is its first page. */
export const REFERENCE = path.join(BUILD, 'api-reference');

/** Both tools bring a TypeScript of their own and read the declarations that ours has written. */
const COMPILER_OPTIONS = {
  target: 'es2023',
  lib: ['es2023'],
  module: 'nodenext',
  moduleResolution: 'nodenext',
  strict: true,
  exactOptionalPropertyTypes: true,
  skipLibCheck: true,
  types: ['node'],
  typeRoots: [path.join(ROOT, 'node_modules/@types')],
};

/**
 * The declarations of everything that an entry of the library exports, as API Extractor writes them down.
 *
 * @param {string} entry
 * @returns {Promise<string>}
 */
export async function apiReport(entry) {
  fs.mkdirSync(WORK, { recursive: true });
  const config = path.join(WORK, `api-extractor-${entry}.json`);
  const report = `${entry}.api.md`;
  const off = { enabled: false };
  const silent = { default: { logLevel: 'none' } };
  writeJson(config, {
    projectFolder: ROOT,
    newlineKind: 'lf',
    mainEntryPointFilePath: declarations(entry),
    compiler: { overrideTsconfig: { compilerOptions: COMPILER_OPTIONS, files: [declarations(entry)] } },
    apiReport: {
      enabled: true,
      reportFileName: report,
      reportFolder: WORK,
      reportTempFolder: `${WORK}/fresh`,
    },
    docModel: off,
    dtsRollup: off,
    tsdocMetadata: off,
    messages: {
      compilerMessageReporting: { default: { logLevel: 'error' } },
      extractorMessageReporting: silent,
      tsdocMessageReporting: silent,
    },
  });
  await run(await toolBin('api-extractor'), ['run', '--local', '--config', config], { cwd: ROOT });
  return fs.readFileSync(path.join(WORK, 'fresh', report), 'utf8');
}

/** Writes the reference, by TypeDoc, from the comments in the declarations. */
export async function apiReference() {
  fs.mkdirSync(WORK, { recursive: true });
  const tsconfig = path.join(WORK, 'tsconfig.json');
  writeJson(tsconfig, { compilerOptions: COMPILER_OPTIONS, files: DECLARATIONS });
  await run(await toolBin('typedoc'), [
    ...['--tsconfig', tsconfig, '--out', REFERENCE],
    ...DECLARATIONS.flatMap((file) => ['--entryPoints', file]),
    ...['--name', 'tsvmm', '--includeVersion', '--readme', path.join(ROOT, 'README.md'), '--disableSources'],
    // Types that are only named by others are explained where they are named.
    ...['--validation.notExported', 'false', '--validation.invalidLink', 'false'],
    '--treatWarningsAsErrors',
  ]);
}

/**
 * @param {string} file
 * @param {unknown} value
 */
function writeJson(file, value) {
  fs.writeFileSync(file, JSON.stringify(value));
}

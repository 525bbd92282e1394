/** Descriptions of the APIs as files, written from the documents that they serve. */
import fs from 'node:fs';
import path from 'node:path';
import { parse, stringify } from 'yaml';
import { run } from './exec.mjs';
import { DIST, ROOT } from './paths.mjs';

/** Of a VM's REST API. */
export const OPENAPI_FILE = path.join(ROOT, 'docs/openapi.yaml');
/** Of `tsvmmd`. */
export const SUPERVISOR_OPENAPI_FILE = path.join(ROOT, 'docs/openapi-tsvmmd.yaml');

const HEAD =
  '# Written by `npm run api` from the schemas in src/; `GET openapi.json` below the API serves the same.\n';

/** @param {unknown} document */
export function openApiYaml(document) {
  return HEAD + stringify(document, { aliasDuplicateObjects: false, lineWidth: 0 });
}

/** Writes both as the command that was built last prints them. */
export async function writeOpenApi() {
  fs.writeFileSync(OPENAPI_FILE, openApiYaml(await printed()));
  fs.writeFileSync(SUPERVISOR_OPENAPI_FILE, openApiYaml(await printed('supervisor')));
}

/** @param {...string} command */
async function printed(...command) {
  const { stdout } = await run(process.execPath, [path.join(DIST, 'js/tsvmm.js'), ...command, '--openapi']);
  // 2^64 - 1 is in it.
  return parse(stdout, { intAsBigInt: true });
}

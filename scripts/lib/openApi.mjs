/** The REST API's description as a file: `docs/openapi.yaml`, written from the document that the API serves. */
import path from 'node:path';
import { stringify } from 'yaml';
import { run } from './exec.mjs';
import { DIST, ROOT } from './paths.mjs';

export const OPENAPI_FILE = path.join(ROOT, 'docs/openapi.yaml');

const HEAD =
  '# Written by `npm run api` from the schemas in src/; `GET /api/v1/openapi.json` serves the same.\n';

/** @param {unknown} document */
export function openApiYaml(document) {
  return HEAD + stringify(document, { aliasDuplicateObjects: false, lineWidth: 0 });
}

/**
 * The document as the command that was built last prints it.
 *
 * @returns {Promise<unknown>}
 */
export async function printedOpenApi() {
  const { stdout } = await run(process.execPath, [path.join(DIST, 'js/tsvmm.cjs'), '--openapi']);
  return JSON.parse(stdout);
}

/** The bundles for Node.js. Imported once there is an esbuild. */
import fs from 'node:fs';
import path from 'node:path';
import { build } from 'esbuild';
import { bundleInParts } from './lateChunk.mjs';
import { ROOT } from './paths.mjs';

/** CommonJS has no import.meta; the file's own URL stands in. */
const OWN_URL = "const __bundleUrl = require('node:url').pathToFileURL(__filename).href;";

/**
 * @typedef {object} Bundle
 * @property {string} entry
 * @property {string} name of the file
 * @property {'esm' | 'cjs'} format
 * @property {string} metafile where it is written of which files the bundle consists
 */

/**
 * @param {Bundle} bundle
 * @param {{ readonly folder: string, readonly define: Record<string, string> }} options
 */
export async function bundle({ entry, name, format, metafile }, { folder, define }) {
  const options = optionsFor(entry);
  const result =
    format === 'esm'
      ? await bundleInParts({ ...options, format, define, outdir: folder })
      : await build({
          ...options,
          format,
          define: { ...define, 'import.meta.url': '__bundleUrl' },
          banner: { js: OWN_URL },
          outfile: path.join(folder, name),
        });
  fs.writeFileSync(metafile, JSON.stringify(result.metafile));
}

/**
 * @param {string} entry
 * @returns {import('./lateChunk.mjs').Options} what is the same for all bundles
 */
export function optionsFor(entry) {
  return {
    absWorkingDir: ROOT,
    entryPoints: [entry],
    bundle: true,
    platform: 'node',
    target: 'node20',
    minifySyntax: true,
    logLevel: 'warning',
    external: ['node-gyp-build'],
    metafile: true,
  };
}

/** The command that runs a VM's process: `bin/tsvmm` of the same installation, which sets the runtime up for a VMM. */
import { accessSync, constants } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { bun } from '../host/bun.ts';

/** From the executable's folder (dist/, lib/tsvmm/, @tsvmm/linux-x64/) or the bundle's (dist/js/). */
const PLACES = ['../bin/tsvmm', '../../bin/tsvmm', '../../tsvmm/bin/tsvmm'];

/** @throws Error if there is none */
export function findLauncher(): string {
  const program = bun?.isStandaloneExecutable ? process.execPath : (process.argv[1] ?? process.execPath);
  const folder = dirname(program);
  for (const place of PLACES) {
    const path = resolve(folder, place);
    try {
      accessSync(path, constants.X_OK);
      return path;
    } catch {
      // The next one.
    }
  }
  throw new Error(`There is no bin/tsvmm near ${folder}`);
}

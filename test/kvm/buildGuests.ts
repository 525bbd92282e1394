/** Builds the payload guests once, before any test of this tier. */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { BIN, ROOT } from './support.ts';

export function setup(): void {
  const made = spawnSync('make', ['-s', '-j2', '-C', 'test/guest'], { cwd: ROOT, encoding: 'utf8' });
  if (made.status !== 0) throw new Error(`building the guests failed:\n${made.stdout}${made.stderr}`);
  if (!existsSync(BIN)) throw new Error(`${BIN} is missing: run npm run build`);
}

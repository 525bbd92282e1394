/** Programs that lead to a daemon, or nowhere. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { expect, onTestFinished, test } from 'vitest';
import { connect } from '../../../../../src/libvirt.ts';

test('a program that does not end when its connection is given up is killed', async () => {
  const folder = mkdtempSync(`${tmpdir()}/tsvmm-command-`);
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const [program, pidFile] = [`${folder}/relay`, `${folder}/pid`];
  const script = `trap '' TERM; echo $$ > ${pidFile}.new; mv ${pidFile}.new ${pidFile}; while :; do sleep 1; done`;
  writeFileSync(program, `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  const stop = new AbortController();
  const connecting = connect(`tsvmm+ext:///system?command=${program}`, { signal: stop.signal });
  const ended = expect(connecting).rejects.toThrow('not wanted any more');
  const pid = () => {
    try {
      return Number(readFileSync(pidFile, 'utf8'));
    } catch {
      return 0;
    }
  };
  await expect.poll(pid, { timeout: 10_000 }).toBeGreaterThan(0);
  stop.abort(new Error('not wanted any more'));
  await ended;
  // Signal 0 asks whether it is there.
  await expect.poll(() => isThere(pid()), { timeout: 10_000 }).toBe(false);
});

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

/** The library's public face: no change goes unnoticed, and its reference can be written. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ACCEPTED_REPORTS, apiReference, apiReport, REFERENCE } from '../../scripts/lib/api.mjs';

test.each(ACCEPTED_REPORTS)(
  'of $entry is what $file says: where a change is meant, `npm run api` writes it down',
  async ({ entry, file }) => {
    expect(await apiReport(entry)).toBe(fs.readFileSync(file, 'utf8'));
  },
);

test('has a reference, made of the comments', async () => {
  fs.rmSync(REFERENCE, { recursive: true, force: true });
  await apiReference();
  const page = (name: string) => fs.readFileSync(path.join(REFERENCE, `classes/${name}.html`), 'utf8');
  expect(page('index.VirtualMachine')).toContain('powerButton');
  expect(page('libvirt.LibvirtConnection')).toContain('domainEvents');
  expect(fs.existsSync(path.join(REFERENCE, 'index.html'))).toBe(true);
});

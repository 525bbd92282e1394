/** The library's public face: no change goes unnoticed, and its reference can be written. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ACCEPTED_REPORT, apiReference, apiReport, REFERENCE } from '../../scripts/lib/api.mjs';

test('is what docs/tsvmm.api.md says: where a change is meant, `npm run api` writes it down', async () => {
  expect(await apiReport()).toBe(fs.readFileSync(ACCEPTED_REPORT, 'utf8'));
});

test('has a reference, made of the comments', async () => {
  fs.rmSync(REFERENCE, { recursive: true, force: true });
  await apiReference();
  const page = fs.readFileSync(path.join(REFERENCE, 'classes/VirtualMachine.html'), 'utf8');
  expect(page).toContain('powerButton');
  expect(fs.existsSync(path.join(REFERENCE, 'index.html'))).toBe(true);
});

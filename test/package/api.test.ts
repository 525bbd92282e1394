/** The library's public face: no change goes unnoticed, and its reference can be written. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ACCEPTED_REPORTS, apiReference, apiReport, REFERENCE } from '../../scripts/lib/api.mjs';
import { run } from '../../scripts/lib/exec.mjs';
import { BUILD, DIST, nodeBin, ROOT } from '../../scripts/lib/paths.mjs';

test.each(ACCEPTED_REPORTS)(
  'of $entry is what $file says: where a change is meant, `npm run api` writes it down',
  async ({ entry, file }) => {
    expect(await apiReport(entry)).toBe(fs.readFileSync(file, 'utf8'));
  },
);

test('shows nothing of what is inside: no addon, no streams of machines', async () => {
  const report = await apiReport('index');
  expect(report).not.toMatch(/NativeAddon|adopt|drain\(|finish\(|AdoptStream/);
  // What a declaration names can be imported.
  expect(report.match(/The symbol "(?!vmhost)\w+" needs to be exported/g) ?? []).toEqual([]);
});

test('the described types of a configuration are those that the schema means', async () => {
  const folder = path.join(BUILD, 'config-types');
  const from = (name: string) => JSON.stringify(path.join(ROOT, 'src/config', name));
  const types = path.join(DIST, 'js/types/esm/config/configTypes.js');
  fs.writeFileSync(
    path.join(folder, 'same.ts'),
    `import type { VmConfig, VmConfigInput } from ${from('vmConfig.ts')};
import type { VmResize as Resize } from ${from('requests.ts')};
import type * as described from ${JSON.stringify(types)};
type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;
export const same: [
  Same<VmConfig, described.VmConfig>,
  Same<VmConfigInput, described.VmConfigInput>,
  Same<Resize, described.VmResize>,
] = [true, true, true];
`,
  );
  const config = path.join(folder, 'tsconfig.json');
  fs.writeFileSync(
    config,
    JSON.stringify({
      extends: path.join(ROOT, 'tsconfig.json'),
      compilerOptions: { noEmit: true },
      files: ['same.ts'],
      include: [],
    }),
  );
  await run(nodeBin('tsc'), ['-p', config]);
});

test('has a reference, made of the comments', async () => {
  fs.rmSync(REFERENCE, { recursive: true, force: true });
  await apiReference();
  const page = (name: string) => fs.readFileSync(path.join(REFERENCE, `${name}.html`), 'utf8');
  expect(page('classes/index.VirtualMachine')).toContain('powerButton');
  expect(page('interfaces/libvirt.LibvirtConnection')).toContain('domainEvents');
  expect(fs.existsSync(path.join(REFERENCE, 'index.html'))).toBe(true);
});

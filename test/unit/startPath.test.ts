/** What is on the path from exec to the guest's first instruction: each module is read, and each function made. */
import path from 'node:path';
import { build, type Metafile } from 'esbuild';
import { expect, test } from 'vitest';
import { optionsFor } from '../../scripts/lib/bundleJs.mjs';
import { bundleInParts } from '../../scripts/lib/lateChunk.mjs';

const ROOT = path.join(import.meta.dirname, '../..');
const ENTRY = 'src/bin/tsvmm.ts';
/** Minified. Who needs more asks first whether every start does. */
const MAX_BYTES = 165_000;
const LIBRARY = 'src/index.ts';
/** What Node.js compiles at an import, which takes 4 ms for 100 KB. Neither it nor the names in it are minified. */
const MAX_LIBRARY_BYTES = 290_000;
/** For others, whom a guest does not wait for. But a socket is claimed before the guest runs. */
const LATER =
  /^(?:src\/(?:api|supervisor|cli\/(?:ctl|console|vms))\/(?!rest\/socketClaim\.ts$)|node_modules\/)/;

/** What the entry imports, and what that does, without `import()`. */
function statically(
  { outputs }: Metafile,
  entry: string,
): {
  files: number;
  inputs: Map<string, number>;
  external: string[];
} {
  const inputs = new Map<string, number>();
  const external: string[] = [];
  const chunks = Object.keys(outputs).filter((name) => outputs[name]?.entryPoint === entry);
  for (const chunk of chunks) {
    const output = outputs[chunk];
    for (const [file, { bytesInOutput }] of Object.entries(output?.inputs ?? {})) {
      inputs.set(file, (inputs.get(file) ?? 0) + bytesInOutput);
    }
    for (const { path: imported, kind } of output?.imports ?? []) {
      if (kind !== 'import-statement') continue;
      if (outputs[imported] === undefined) external.push(imported);
      else if (!chunks.includes(imported)) chunks.push(imported);
    }
  }
  return { files: chunks.length, inputs, external: [...new Set(external)] };
}

test('a start loads what it needs, and nothing of the runtime', async () => {
  const { metafile } = await build({
    absWorkingDir: ROOT,
    entryPoints: [ENTRY],
    bundle: true,
    splitting: true,
    minify: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'node',
    outdir: 'build',
    external: ['node-gyp-build'],
  });
  const { inputs, external } = statically(metafile, ENTRY);
  expect(external).toEqual([]);
  expect([...inputs.keys()]).toContain('src/vmm/vmm.ts');
  expect([...inputs.keys()].filter((file) => LATER.test(file))).toEqual([]);
  const bytes = [...inputs.values()].reduce((sum, size) => sum + size, 0);
  expect(bytes, [...inputs].map(([file, size]) => `${size} ${file}`).join('\n')).toBeLessThan(MAX_BYTES);
});

test('an import of the library loads two files, with what every VM needs', async () => {
  const options = { ...optionsFor(LIBRARY), format: 'esm', outdir: 'build', write: false } as const;
  const { metafile } = await bundleInParts(options);
  const { files, inputs, external } = statically(metafile, LIBRARY);
  expect(files).toBe(2);
  expect(external).toEqual(['node:events', 'node:fs']);
  const later = ['devices/disk/openDisk', 'devices/net/passt', 'host/guestStream', 'vmm/hotplug'];
  for (const file of later) {
    expect([...inputs.keys()]).not.toContain(`src/${file}.ts`);
    expect(metafile.inputs).toHaveProperty([`src/${file}.ts`]);
  }
  const bytes = [...inputs.values()].reduce((sum, size) => sum + size, 0);
  expect(bytes).toBeLessThan(MAX_LIBRARY_BYTES);
});

test('on Node.js, a VM with a socket and a log loads no subcommands', async () => {
  const options = { ...optionsFor(ENTRY), format: 'esm', outdir: 'build', write: false } as const;
  const { metafile } = await bundleInParts(options);
  expect(statically(metafile, ENTRY).files).toBeLessThanOrEqual(5);
  for (const later of ['late:src/api/rest/server.ts', 'late:src/cli/reporter.ts']) {
    const files = [...statically(metafile, later).inputs.keys()];
    expect(files).toContain(later.replace('late:', ''));
    expect(files.filter((file) => /^src\/(?:api\/libvirt|supervisor|cli\/ctl)\//.test(file))).toEqual([]);
  }
});

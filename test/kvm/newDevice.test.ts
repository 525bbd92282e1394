/**
 * A tsvmm with one kind of device more, made of a record and a line in the list, and in the core of a file and a line
 * in the list: its command line, its API, and its guest.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { build, type Plugin } from 'esbuild';
import { beforeAll, expect, test } from 'vitest';
import { buildGadgetAddon } from '../../scripts/lib/buildNative.mjs';
import { guestArgs, ROOT, Tsvmm, temporaryFolder } from './support.ts';

/** Laid out as a checkout, for the addon to be found. */
const FOLDER = path.join(ROOT, 'build/new-device');
const COPY = path.join(FOLDER, 'dist/js/tsvmm.cjs');
const ADDON = path.join(FOLDER, 'dist/tsvmm.node');
const COMMAND = [process.execPath, COPY];
const LIST = path.join(ROOT, 'src/devices/list.ts');
const GADGET = path.join(ROOT, 'test/unit/support/gadget.ts');

/** The line, and the import that it needs. */
const oneLineMore: Plugin = {
  name: 'one line more',
  setup: ({ onLoad }) => {
    onLoad({ filter: /\/src\/devices\/list\.ts$/ }, () => {
      const text = fs.readFileSync(LIST, 'utf8').replace('] as const', 'gadget,] as const');
      return { contents: `import { gadget } from ${JSON.stringify(GADGET)};\n${text}`, loader: 'ts' };
    });
  },
};

/** The core is compiled if it was not. */
const BUILD_MS = 900_000;

beforeAll(async () => {
  await buildGadgetAddon(ADDON);
  await build({
    entryPoints: [path.join(ROOT, 'src/bin/tsvmm.ts')],
    outfile: COPY,
    bundle: true,
    format: 'cjs',
    platform: 'node',
    logLevel: 'error',
    // A CommonJS bundle has none, and finds the addon by its own name.
    logOverride: { 'empty-import-meta': 'silent' },
    plugins: [oneLineMore],
  });
}, BUILD_MS);

function printed(...args: string[]): string {
  const { stdout, stderr, status } = spawnSync(COMMAND[0] as string, [COPY, ...args], { encoding: 'utf8' });
  expect([stderr, status]).toEqual(['', 0]);
  return stdout;
}

test('it is in the help, the completions and the OpenAPI document', () => {
  expect(printed('--help')).toContain('  --gadget OPTIONS...');
  expect(printed('--help', 'gadget')).toContain('level=N');
  expect(printed('--completions', 'bash')).toContain('--gadget');
  const { paths, components } = JSON.parse(printed('--openapi'));
  expect(Object.keys(paths)).toContain('/api/v1/vm.add-gadget');
  expect(components.schemas.VmConfig.properties.gadgets).toBeDefined();
});

/** Of its PCI function (virtio 1.2 §4.1.2.1), by its number in test/native/gadget.cc. */
const GADGET_ID = (0x1040 + 62).toString(16);

test('a guest finds it on its bus, and vm.info tells of it', async () => {
  const api = path.join(temporaryFolder(), 'api');
  const args = ['--gadget', 'source=/dev/zero,id=mine', 'source=/dev/urandom,level=4', '--api-socket', api];
  const vmm = new Tsvmm(guestArgs({ cmdline: 'run=pci then=idle', args }), { command: COMMAND });
  await vmm.waitFor('ok pci\n', () => vmm.stdout.replaceAll('\r', ''));
  const devices = vmm.stdout.split(/\r?\n/).filter((line) => line.includes(`id ${GADGET_ID}1af4`));
  expect(devices.map((line) => line.slice(0, 'slot 00'.length))).toEqual(['slot 02', 'slot 03']);
  const { json } = await vmm.api('GET', 'vm.info');
  const { config, device_tree } = json as {
    config: { gadgets: object[] };
    device_tree: Record<string, object>;
  };
  expect(config.gadgets).toMatchObject([
    { id: 'mine', level: 3 },
    { id: '_gadget0', level: 4 },
  ]);
  expect(device_tree['_virtio-pci-_gadget0']).toMatchObject({
    pci_bdf: '0000:00:03.0',
    children: ['_gadget0'],
  });
  const counters = await vmm.api('GET', 'vm.counters');
  expect(counters.json).toMatchObject({ mine: { filled: 0 }, _gadget0: { filled: 0 } });
  const removal = await vmm.api('PUT', 'vm.remove-device', { id: 'mine' });
  expect([removal.status, removal.json]).toEqual([204, undefined]);
  await vmm.api('PUT', 'vmm.shutdown');
  expect(await vmm.exit()).toEqual({ code: 0, signal: null });
});

test('what is wrong with it is said', () => {
  const args = guestArgs({ cmdline: 'run=pci', args: ['--gadget', 'source=/dev/zero,level=11'] });
  const { stderr, status } = spawnSync(COMMAND[0] as string, [COPY, ...args], { encoding: 'utf8' });
  expect(stderr).toContain('The gadget /dev/zero has level 11, which is above 10 for each vCPU');
  expect(status).toBe(1);
});

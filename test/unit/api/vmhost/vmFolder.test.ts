import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { readJcard } from '../../../../src/api/vmhost/jcard.ts';
import { readVmFolder, vmFolderPath } from '../../../../src/api/vmhost/vmFolder.ts';
import { nodeFiles } from '../../support/nodeFiles.ts';
import { temporaryFolder } from './support.ts';

/** A supervisor's folder with one VM and these files, by their paths below it. */
function folderWith(files: Readonly<Record<string, string>>): { configDir: string; vm: string } {
  const configDir = temporaryFolder();
  const vm = vmFolderPath(configDir, 'one');
  fs.mkdirSync(vm, { recursive: true });
  for (const [name, content] of Object.entries(files)) {
    fs.mkdirSync(path.dirname(path.join(configDir, name)), { recursive: true });
    fs.writeFileSync(path.join(configDir, name), content);
  }
  return { configDir, vm };
}

const STATE = { name: 'one', cpus: 2, memory: '4GiB', ssh_port: 40_022, vsock_port: 0, network_mode: 'nat' };
const MIXTAPE = {
  'mixtapes/opencode/1.0/kernel-artifacts/bzImage': 'k',
  'mixtapes/opencode/1.0/kernel-artifacts/initrd': 'i',
  'mixtapes/opencode/1.0/kernel-artifacts/cmdline': 'console=ttyS0 root=/dev/vda\n',
};
const CARD = `
mixtape = "opencode:1.0"
[resources]
cpus = 3
memory = "768MiB"
[network]
forwards = [{ host = 8080, guest = 80 }, { host = 5353, guest = 53, proto = "udp" }]
[secrets]
TOKEN = "x-\${TSVMM_TEST_SECRET}-\${TSVMM_TEST_ABSENT}"
[[agents]]
harness = "claude-code"
`;

test('vm.json is as the REST API takes it; without consoles in it the guest prints into serial.log', async () => {
  const { configDir, vm } = folderWith({
    'vms/one/vm.json': '{"payload":{"kernel":"k"},"cpus":{"boot_vcpus":2,"max_vcpus":2}}',
  });
  const { config } = await readVmFolder(nodeFiles(), configDir, vm);
  expect(config).toMatchObject({
    payload: { kernel: 'k' },
    cpus: { boot_vcpus: 2 },
    serial: { mode: 'File', file: `${vm}/serial.log` },
    console: { mode: 'Off' },
  });
});

test.each([
  ['vm.json', '{"memory":{"size":18446744073709551615}}', 2n ** 64n - 1n],
  // TOML's integers are signed.
  ['vm.toml', '[memory]\nsize = 9223372036854775807\n', 2n ** 63n - 1n],
])('integers of 64 bits stay exact in %s', async (file, text, size) => {
  const { configDir, vm } = folderWith({ [`vms/one/${file}`]: text });
  const { config } = await readVmFolder(nodeFiles(), configDir, vm);
  expect(config.memory.size).toBe(size);
});

test('vm.toml has the same schema, and comes after vm.json', async () => {
  const toml = '[payload]\nkernel = "t"\n[memory]\nsize = 134217728\n[serial]\nmode = "Null"\n';
  const { configDir, vm } = folderWith({ 'vms/one/vm.toml': toml });
  const { config } = await readVmFolder(nodeFiles(), configDir, vm);
  expect(config).toMatchObject({
    payload: { kernel: 't' },
    memory: { size: 134_217_728 },
    serial: { mode: 'Null' },
  });
  fs.writeFileSync(path.join(vm, 'vm.json'), '{"payload":{"kernel":"j"}}');
  expect((await readVmFolder(nodeFiles(), configDir, vm)).config.payload?.kernel).toBe('j');
});

test("the daemon's files make the machine that its card describes", async () => {
  process.env.TSVMM_TEST_SECRET = 'secret';
  const { configDir, vm } = folderWith({
    ...MIXTAPE,
    'vms/one/jcard.toml': CARD,
    'vms/one/state.json': JSON.stringify({ ...STATE, vsock_port: 41_024, vsock_cid: 9 }),
    'vms/one/disk.qcow2': '',
    'vms/one/disk.raw': '',
  });
  const { config, daemon } = await readVmFolder(nodeFiles(), configDir, vm);
  const artifacts = `${configDir}/mixtapes/opencode/1.0/kernel-artifacts`;
  expect(config).toMatchObject({
    payload: {
      kernel: `${artifacts}/bzImage`,
      initramfs: `${artifacts}/initrd`,
      cmdline: 'console=ttyS0 root=/dev/vda',
    },
    cpus: { boot_vcpus: 3, max_vcpus: 3 },
    memory: { size: 768 * 2 ** 20 },
    disks: [{ path: `${vm}/disk.qcow2`, image_type: 'Qcow2', backing_files: true }],
    net: [
      {
        user: true,
        forward: ['tcp:127.0.0.1:40022:22', 'tcp:127.0.0.1:41024:1024', 'tcp:8080:80', 'udp:5353:53'],
      },
    ],
    vsock: { cid: 9, socket: `${vm}/vsock.sock` },
    serial: { mode: 'File', file: `${vm}/serial.log` },
  });
  expect(daemon?.card.secrets).toEqual(new Map([['TOKEN', 'x-secret-']]));
});

test('a raw disk, an older mixtape, no network', async () => {
  const old = Object.fromEntries(
    Object.entries(MIXTAPE).map(([name, content]) => [name.replace('/1.0', ''), content]),
  );
  const { configDir, vm } = folderWith({
    ...old,
    'vms/one/jcard.toml': 'mixtape = "opencode"\n[network]\nmode = "none"\n',
    'vms/one/state.json': JSON.stringify({ ...STATE, ssh_port: 0 }),
    'vms/one/disk.raw': '',
  });
  const { config, daemon } = await readVmFolder(nodeFiles(), configDir, vm);
  expect(config.disks).toMatchObject([{ path: `${vm}/disk.raw`, image_type: 'Raw', backing_files: false }]);
  expect(config.net).toBeUndefined();
  expect(config).toMatchObject({ cpus: { boot_vcpus: 2 }, memory: { size: 4 * 2 ** 30 } });
  expect(daemon?.state.sshPort).toBe(0);
});

test('where the daemon chose no port for SSH, one is chosen and written down', async () => {
  const { configDir, vm } = folderWith({
    ...MIXTAPE,
    'vms/one/jcard.toml': 'mixtape = "opencode:1.0"\n',
    'vms/one/state.json': JSON.stringify({ ...STATE, ssh_port: 0, platform_data: 'AAEC' }),
    'vms/one/disk.raw': '',
  });
  const { config, daemon } = await readVmFolder(nodeFiles(), configDir, vm);
  const port = daemon?.state.sshPort as number;
  expect(port).toBeGreaterThan(1023);
  expect(config.net?.[0]?.forward).toEqual([`tcp:127.0.0.1:${port}:22`]);
  const written = JSON.parse(fs.readFileSync(path.join(vm, 'state.json'), 'utf8'));
  expect(written).toEqual({ ...STATE, ssh_port: port, platform_data: 'AAEC' });
});

test.each<[string, Readonly<Record<string, string>>, RegExp]>([
  ['nothing', {}, /has no vm.json, no vm.toml, and not both of jcard.toml and state.json/],
  ['half a JSON', { 'vm.json': '{' }, /^vm.json: /],
  ['no object', { 'vm.json': '[]' }, /^vm.json: invalid type: array, expected an object/],
  ['a wrong type', { 'vm.json': '{"cpus":5}' }, /^vm.json: cpus: invalid type/],
  ['a broken TOML', { 'vm.toml': 'a = ' }, /^vm.toml: /],
  ['no state', { 'jcard.toml': '' }, /not both of jcard.toml and state.json/],
  ['a state that is no object', { 'jcard.toml': '', 'state.json': '[]' }, /^state.json is not a table/],
  [
    'a port that is none',
    { 'jcard.toml': '', 'state.json': '{"ssh_port":70000}' },
    /state.json: ssh_port is not a whole number from 0 to 65535/,
  ],
  [
    'no mixtape',
    { 'jcard.toml': '', 'state.json': '{"ssh_port":1}' },
    /The mixtape base has no .*mixtapes\/base\/latest\/kernel-artifacts with bzImage/,
  ],
  [
    'a mixtape elsewhere',
    { 'jcard.toml': 'mixtape = "../../etc"', 'state.json': '{"ssh_port":1}' },
    /mixtape "..\/..\/etc" is no name/,
  ],
])('a folder with %s is refused', async (_, files, message) => {
  const { configDir, vm } = folderWith(
    Object.fromEntries(Object.entries(files).map(([name, content]) => [`vms/one/${name}`, content])),
  );
  await expect(readVmFolder(nodeFiles(), configDir, vm)).rejects.toThrow(message);
});

test('a folder without a disk is refused by name', async () => {
  const { configDir, vm } = folderWith({
    ...MIXTAPE,
    'vms/one/jcard.toml': CARD,
    'vms/one/state.json': JSON.stringify(STATE),
  });
  await expect(readVmFolder(nodeFiles(), configDir, vm)).rejects.toThrow(
    /neither .*disk.qcow2 nor .*disk.raw/,
  );
});

test.each<[object, RegExp]>([
  [{ shared: [{ host: '/a', guest: '/b' }] }, /^jcard.toml: shared: a shared folder cannot be had yet/],
  [
    { network: { egress_allow: ['example.org'] } },
    /^jcard.toml: network.egress_allow: a limit to some destinations cannot/,
  ],
  [{ network: { mode: 'bridged' } }, /^jcard.toml: network.mode: a bridged network cannot be had yet/],
  [{ network: { mode: 'host' } }, /^jcard.toml: network.mode is not nat, bridged or none/],
  [
    { network: { forwards: [{ host: 0, guest: 80 }] } },
    /^jcard.toml: network.forwards\[0\].host is not a port/,
  ],
  [
    { network: { forwards: [{ host: 80, guest: 80, proto: 'sctp' }] } },
    /forwards\[0\].proto is not tcp or udp/,
  ],
  [{ network: { forwards: ['80:80'] } }, /forwards\[0\] is not a table/],
  [{ resources: { cpus: 255 } }, /resources.cpus is not a whole number from 1 to 254/],
  [{ resources: { memory: '4 gigs' } }, /resources.memory is not a size such as 4GiB/],
  [{ resources: 5 }, /^jcard.toml: resources is not a table/],
  [{ secrets: { A: 5 } }, /secrets.A is not text/],
])('the card %j is refused', (card, message) => {
  expect(() => readJcard(card, {})).toThrow(message);
});

test.each([
  ['4GiB', 4 * 2 ** 30],
  ['512MiB', 512 * 2 ** 20],
  ['512mib', 512 * 2 ** 20],
  ['2G', 2 ** 31],
  ['1T', 2 ** 40],
  ['134217728', 134_217_728],
])('a memory of %s has %d bytes', (memory, bytes) => {
  expect(readJcard({ resources: { memory } }, {}).memory).toBe(bytes);
});

test.each(['', '.', '..', 'a/b', '-x', '.hidden', 'a b', 'a\n', 'x'.repeat(201)])(
  '%j is no name of a VM',
  (name) => {
    expect(() => vmFolderPath('/d', name)).toThrow(/is no name of a VM/);
  },
);

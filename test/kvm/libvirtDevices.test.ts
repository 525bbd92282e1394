/** Devices that Debian's own virsh attaches to domains, and detaches from them. */
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { PAYLOAD } from './support.ts';
import { documentFile, type Host, host, run, SCHEMA, watchEvents } from './virsh.ts';

function image(given: Host, name: string): string {
  const file = path.join(given.folder, name);
  fs.writeFileSync(file, Buffer.alloc(1 << 20));
  return file;
}

function device(given: Host, xml: string): string {
  const file = path.join(given.folder, 'device.xml');
  fs.writeFileSync(file, xml);
  return file;
}

/** Targets of the disks that a domain has: now, or at its next start. */
async function targets({ virsh }: Host, ...options: string[]): Promise<string[]> {
  const lines = (await virsh('domblklist', 'one', ...options)).split('\n').slice(2);
  return lines.map((line) => line.trim().split(/ +/)[0] as string);
}

async function domain(given: Host): Promise<void> {
  const disk = `<disk type='file'><source file='${image(given, 'a.img')}'/><target dev='vda' bus='virtio'/></disk>`;
  await given.virsh('define', documentFile(given.folder, 'one', 'run=idle', disk));
}

test('disks of a machine, of a definition, and of both', async () => {
  const given = await host();
  const { virsh, refused, daemon } = given;
  await domain(given);
  expect(await refused('attach-disk', 'one', image(given, 'b.img'), 'vdb')).toMatch(/domain is not running/);
  expect(await refused('attach-disk', 'one', image(given, 'b.img'), 'vdb', '--live')).toMatch(
    /domain is not running/,
  );
  await virsh('attach-disk', 'one', image(given, 'b.img'), 'vdb', '--config', '--serial', 'second');
  expect(await targets(given)).toEqual(['vda', 'vdb']);
  await virsh('start', 'one');

  const events = watchEvents(given);
  await events.ready();
  await virsh('attach-disk', 'one', image(given, 'c.img'), 'vdc', '--live', '--mode', 'readonly');
  await virsh('attach-disk', 'one', image(given, 'd.img'), 'vdd', '--persistent', '--targetbus', 'virtio');
  expect(await targets(given)).toEqual(['vda', 'vdb', 'vdc', 'vdd']);
  expect(await targets(given, '--inactive')).toEqual(['vda', 'vdb', 'vdd']);
  await expect.poll(events.lines).toEqual(expect.arrayContaining(['device-added vdc', 'device-added vdd']));
  expect(await virsh('domblkinfo', 'one', 'vdc')).toMatch(/Capacity: +1048576/);
  expect(await virsh('domblkstat', 'one', 'vdd')).toMatch(/vdd rd_req 0/);
  const document = await virsh('dumpxml', 'one');
  expect(document).toMatch(/<readonly\/>\s*<alias name='vdc'\/>/);
  const file = device(given, document);
  expect(await run('xmllint', ['--noout', '--relaxng', SCHEMA, file])).toMatchObject({ code: 0 });

  expect(await refused('attach-disk', 'one', image(given, 'e.img'), 'vdd')).toMatch(
    /operation failed: target vdd already exists/,
  );
  expect(await refused('attach-disk', 'one', '/nowhere', 'vde', '--persistent')).toMatch(
    /The disk could not be added to the VM.*\/nowhere/,
  );
  expect(await refused('attach-disk', 'one', image(given, 'e.img'), 'sda')).toMatch(/'sda'/);
  expect(await targets(given, '--inactive')).toEqual(['vda', 'vdb', 'vdd']);

  // Asked, and not given up: nobody in the guest hears it, which has it still.
  await virsh('detach-disk', 'one', 'vdd', '--persistent');
  expect((await targets(given)).sort()).toEqual(['vda', 'vdb', 'vdc', 'vdd']);
  expect(await targets(given, '--inactive')).toEqual(['vda', 'vdb']);
  expect(await virsh('domblkstat', 'one', 'vdd')).toMatch(/vdd rd_req 0/);
  expect(await refused('detach-disk', 'one', 'vdd', '--live')).toMatch(
    /was asked before to give up the device vdd, and has not yet/,
  );
  expect(events.lines()).not.toContain('device-removed vdd');
  await virsh('detach-disk', 'one', 'vdb', '--config');
  await daemon.run('ctl', 'one', 'remove-device', '--force', 'vdd');
  await expect.poll(events.lines).toContain('device-removed vdd');
  expect(await targets(given)).toEqual(['vda', 'vdb', 'vdc']);
  expect(await refused('detach-disk', 'one', 'vdx', '--live')).toMatch(/No disk found/);
  expect(await refused('detach-device-alias', 'one', 'vdx', '--live')).toMatch(
    /no device found with alias vdx/,
  );
  await virsh('destroy', 'one');
  expect(await targets(given)).toEqual(['vda']);
});

test('interfaces and the socket', async () => {
  const given = await host();
  const { virsh, refused } = given;
  await domain(given);
  await virsh('start', 'one');
  const events = watchEvents(given);
  await events.ready();
  const mac = '52:54:00:12:34:56';
  const user = device(
    given,
    `<interface type='user'><mac address='${mac}'/><model type='virtio'/></interface>`,
  );
  await virsh('attach-device', 'one', user, '--config');
  expect(await virsh('domiflist', 'one', '--inactive')).toContain(mac);
  expect(await refused('attach-device', 'one', user, '--config')).toMatch(
    /an interface .*:56 already exists/,
  );
  await virsh('detach-interface', 'one', 'user', '--mac', mac, '--config');
  expect(await virsh('domiflist', 'one', '--inactive')).not.toContain(mac);
  expect(await refused('detach-device', 'one', user, '--config')).toMatch(/device not found: no interface/);
  // Of those that virsh's own command knows only 'bridge' is one of ours.
  for (const [type, source] of [
    ['network', 'default'],
    ['direct', 'lo'],
  ] as const) {
    expect(await refused('attach-interface', 'one', type, source, '--live')).toMatch(
      new RegExp(`an interface of type '${type}': 'bridge', 'ethernet' and 'user' are there`),
    );
  }

  const vsock = device(given, `<vsock model='virtio'><cid auto='no' address='7'/></vsock>`);
  await virsh('attach-device', 'one', vsock, '--persistent');
  expect(await virsh('dumpxml', 'one', '--inactive')).toContain("address='7'");
  expect(await refused('attach-device', 'one', vsock, '--live')).toMatch(/has a vsock already/);
  const alias = /<vsock[\s\S]*?<alias name='(.*?)'/.exec(await virsh('dumpxml', 'one'))?.[1] as string;
  await expect.poll(events.lines).toContain(`device-added ${alias}`);
  await virsh('detach-device-alias', 'one', alias, '--live');
  expect(await virsh('dumpxml', 'one')).toContain('<vsock');
  await virsh('reset', 'one');
  await expect.poll(() => virsh('dumpxml', 'one')).not.toContain('<vsock');
  await virsh('detach-device', 'one', vsock, '--config');
  expect(await virsh('dumpxml', 'one', '--inactive')).not.toContain('<vsock');

  const strange = device(given, "<hostdev mode='subsystem' type='pci'/>");
  expect(await refused('attach-device', 'one', strange, '--live')).toMatch(/unknown device type 'hostdev'/);
  fs.writeFileSync(strange, '<disk');
  expect(await refused('attach-device', 'one', strange, '--live')).toMatch(/device_definition/);
});

test('a transient domain has no definition, and what others add is seen', async () => {
  const given = await host();
  const { virsh, refused, daemon } = given;
  await virsh('create', documentFile(given.folder, 'one', 'run=idle'));
  const disk = image(given, 'a.img');
  expect(await refused('attach-disk', 'one', disk, 'vda', '--config')).toMatch(
    /transient domains do not have any persistent config/,
  );
  await virsh('attach-disk', 'one', disk, 'vda', '--current');
  const events = watchEvents(given);
  await events.ready();
  const other = image(given, 'b.img');
  await daemon.run('ctl', 'one', 'add-disk', `path=${other},image_type=raw,id=other`);
  await expect.poll(events.lines).toContain('device-added other');
  const known = () => run('virsh', ['-c', given.uri, 'domblkstat', 'one', other]);
  await expect.poll(async () => (await known()).code).toBe(0);
});

test('disks of a machine that was not defined by a document keep their targets', async () => {
  const given = await host();
  const { virsh, daemon } = given;
  const disks = ['a', 'b', 'c'].map((name) => `path=${image(given, `${name}.img`)},image_type=raw`);
  const kernel = ['--kernel', PAYLOAD, '--cmdline', 'run=idle'];
  await daemon.run('run', '-d', '--name', 'one', ...kernel, '--disk', ...disks);
  const sources = async () =>
    (await virsh('domblklist', 'one'))
      .match(/vd\w +\S+\/\w/g)
      ?.map(short)
      .sort();
  const short = (line: string) => line.replace(/ .*\//, ' ');
  expect(await sources()).toEqual(['vda a', 'vdb b', 'vdc c']);
  await virsh('detach-disk', 'one', 'vda', '--live');
  expect(await sources()).toEqual(['vda a', 'vdb b', 'vdc c']);
  await daemon.run('ctl', 'one', 'remove-device', '--force', '_disk0');
  expect(await sources()).toEqual(['vdb b', 'vdc c']);
  await virsh('detach-disk', 'one', 'vdb', '--live');
  await daemon.run('ctl', 'one', 'remove-device', '--force', '_disk1');
  expect(await sources()).toEqual(['vdc c']);
});

test('devices are updated: in the definition, and in the machine where nothing is another', async () => {
  const given = await host();
  const { virsh, refused } = given;
  await domain(given);
  const mac = '52:54:00:12:34:57';
  const net = `<interface type='user'><mac address='${mac}'/><model type='virtio'/></interface>`;
  await virsh('attach-device', 'one', device(given, net), '--config');
  await virsh('start', 'one');
  const other = image(given, 'other.img');
  const disk = `<disk type='file'><source file='${other}'/><target dev='vda' bus='virtio'/></disk>`;
  expect(await refused('update-device', 'one', device(given, disk), '--live')).toMatch(
    /Operation not supported: cannot modify <source> of vda while the machine runs/,
  );
  expect(await refused('change-media', 'one', 'vda', '--eject')).toMatch(/vda/);
  await virsh('update-device', 'one', device(given, disk), '--config');
  expect(await virsh('domblklist', 'one', '--inactive')).toContain(other);
  expect(await virsh('domblklist', 'one')).not.toContain(other);
  // A document that was dumped says what is so.
  const live = await virsh('dumpxml', 'one');
  for (const kind of ['disk', 'interface']) {
    const element = new RegExp(`<${kind}[\\s\\S]*?</${kind}>`).exec(live)?.[0] as string;
    await virsh('update-device', 'one', device(given, element), '--live');
  }
  await virsh('blockresize', 'one', 'vda', '2M');
  expect(await virsh('domblkinfo', 'one', 'vda')).toMatch(/Capacity: +2097152/);
  expect(await refused('blockresize', 'one', 'vda', '1000B')).toMatch(/512/);
  expect(await refused('blockresize', 'one', 'vdz', '2M')).toMatch(/disk 'vdz' not found/);
  await virsh('domif-setlink', 'one', mac, 'up');
  expect(await virsh('domif-getlink', 'one', mac)).toContain('up');
  expect(await refused('domif-setlink', 'one', mac, 'down')).toMatch(/is always up, never 'down'/);
  expect(await refused('update-device', 'one', device(given, "<rng model='virtio'/>"), '--live')).toMatch(
    /a device of type 'rng' cannot be updated/,
  );
  await virsh('destroy', 'one');
});

test.skipIf(!fs.existsSync('/dev/net/tun'))('interfaces are put into bridges', async () => {
  const namespace = `tsvmm-bridge-${process.pid}`;
  const ip = (...words: string[]) => execFileSync('ip', words, { encoding: 'utf8' });
  ip('netns', 'add', namespace);
  onTestFinished(() => void ip('netns', 'del', namespace));
  ip('-n', namespace, 'link', 'add', 'name', 'br0', 'type', 'bridge');
  const ports = () => ip('-n', namespace, '-o', 'link', 'show', 'master', 'br0').split('\n').filter(Boolean);
  const given = await host([], ['ip', 'netns', 'exec', namespace]);
  const { virsh, refused } = given;
  const mac = '52:54:00:12:34:5';
  const net = `<interface type='bridge'><mac address='${mac}8'/><source bridge='br0'/><target dev='port0'/></interface>`;
  await virsh('define', documentFile(given.folder, 'one', 'run=idle', net));
  await virsh('start', 'one');
  expect(ports()).toEqual([expect.stringMatching(/port0: .*,UP.* master br0 /)]);
  await virsh(
    'attach-interface',
    'one',
    'bridge',
    'br0',
    '--mac',
    `${mac}9`,
    '--model',
    'virtio',
    '--persistent',
  );
  expect(ports()).toHaveLength(2);
  expect(await virsh('domiflist', 'one')).toMatch(
    /port0 +bridge +br0 +virtio +52:54:00:12:34:58[\s\S]* bridge +br0 /,
  );
  const document = await virsh('dumpxml', 'one');
  const dumped = device(given, document);
  expect(await run('xmllint', ['--noout', '--relaxng', SCHEMA, dumped])).toMatchObject({ code: 0 });
  expect(await refused('attach-interface', 'one', 'bridge', 'nobridge', '--live')).toMatch(
    /Cannot put into the bridge nobridge the tap vmtap\d+: .*No such device/,
  );
  expect(ports()).toHaveLength(2);
  await virsh('destroy', 'one');
  await expect.poll(ports).toEqual([]);
  await virsh('start', 'one');
  expect(ports()).toHaveLength(2);
  await virsh('detach-interface', 'one', 'bridge', '--mac', `${mac}9`, '--config');
  expect(await virsh('domiflist', 'one', '--inactive')).not.toContain(`${mac}9`);
  await virsh('destroy', 'one');
});

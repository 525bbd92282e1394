/** What Debian's own virsh does to the memory and the vCPUs of a domain that runs, and of its definition. */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { PAYLOAD, settles } from './support.ts';
import { type Host, host, run, SCHEMA } from './virsh.ts';

interface Machine {
  readonly sizes: string;
  readonly cmdline: string;
  readonly devices?: string;
  readonly vcpu?: string;
}

async function domain(given: Host, { sizes, cmdline, devices = '', vcpu = '1' }: Machine): Promise<void> {
  const file = path.join(given.folder, 'one.xml');
  fs.writeFileSync(
    file,
    `<domain type='kvm'><name>one</name>${sizes}<vcpu current='1'>${vcpu}</vcpu>
     <os><type arch='x86_64'>hvm</type><kernel>${PAYLOAD}</kernel><cmdline>${cmdline}</cmdline></os>
     <devices><serial type='pty'/>${devices}</devices></domain>`,
  );
  await given.virsh('define', file);
  await given.virsh('start', 'one');
}

function device({ folder }: Host, xml: string, name = 'device.xml'): string {
  const file = path.join(folder, name);
  fs.writeFileSync(file, xml);
  return file;
}

const dimm = (mib: number) => `<memory model='dimm'><target><size unit='MiB'>${mib}</size></target></memory>`;

async function isValid(given: Host, ...options: string[]): Promise<string> {
  const document = await given.virsh('dumpxml', 'one', ...options);
  const checked = await run('xmllint', [
    '--noout',
    '--relaxng',
    SCHEMA,
    device(given, document, 'dumped.xml'),
  ]);
  expect(checked).toMatchObject({ code: 0 });
  return document;
}

test('memory by ACPI: DIMMs that stay, the balloon, and the definition', async () => {
  const given = await host();
  const { virsh, refused } = given;
  await domain(given, {
    sizes: "<maxMemory slots='8' unit='MiB'>640</maxMemory><memory unit='MiB'>128</memory>",
    cmdline: 'run=idle',
    devices: "<memballoon model='virtio'/>",
  });
  const info = async () => {
    const said = await virsh('dominfo', 'one');
    return [/Max memory: +(\d+) KiB/, /Used memory: +(\d+) KiB/].map(
      (each) => Number(each.exec(said)?.[1]) / 1024,
    );
  };
  expect(await isValid(given)).toContain("<maxMemory slots='8' unit='KiB'>655360</maxMemory>");
  expect(await info()).toEqual([128, 128]);
  await virsh('setmem', 'one', '96M');
  expect(await info()).toEqual([128, 96]);
  expect(await refused('setmem', 'one', '256M')).toMatch(
    /cannot set memory higher than max memory 131072: more comes by attach-device/,
  );
  expect(await refused('setmaxmem', 'one', '256M', '--live')).toMatch(
    /cannot resize the maximum memory on an/,
  );

  await virsh('attach-device', 'one', device(given, dimm(256)), '--live');
  expect(await info()).toEqual([384, 352]);
  expect(await refused('attach-device', 'one', device(given, dimm(100)), '--live')).toMatch(
    /multiples of 134217728/,
  );
  expect(await refused('attach-device', 'one', device(given, dimm(512)), '--live')).toMatch(
    /size '524288' would exceed domain's maxMemory config size/,
  );
  expect(await isValid(given)).toContain("<maxMemory slots='8' unit='KiB'>655360</maxMemory>");
  await virsh('attach-device', 'one', device(given, dimm(128)), '--persistent');
  expect(await info()).toEqual([512, 480]);
  const inactive = await isValid(given, '--inactive');
  expect(inactive).toMatch(
    /<maxMemory slots='8' unit='KiB'>655360<\/maxMemory>\s*<memory unit='KiB'>262144</,
  );

  await virsh('setmaxmem', 'one', '512M', '--config');
  await virsh('setmem', 'one', '300M', '--config');
  expect(await refused('setmaxmem', 'one', '700M', '--config')).toMatch(
    /cannot set initial memory size greater than the maximum memory size/,
  );
  expect(await refused('detach-device', 'one', device(given, dimm(128)), '--config')).toMatch(
    /device not found: memory that was attached as a DIMM is part of <memory>/,
  );
  await virsh('destroy', 'one');
  await virsh('start', 'one');
  expect(await info()).toEqual([512, 300]);
  expect(await isValid(given)).toContain("<maxMemory slots='8' unit='KiB'>655360</maxMemory>");
  await virsh('destroy', 'one');
});

test('memory by a virtio-mem device that the guest plugs in and out', async () => {
  const given = await host();
  const { virsh, refused } = given;
  const target = (requested: number) =>
    `<target><size unit='MiB'>256</size><node>0</node><requested unit='MiB'>${requested}</requested></target>`;
  await domain(given, {
    sizes: "<maxMemory slots='1' unit='MiB'>384</maxMemory><memory unit='MiB'>384</memory>",
    cmdline: 'run=mem-follow',
    devices: `<memory model='virtio-mem'>${target(32)}</memory><memballoon model='none'/>`,
  });
  const current = (mib: number) =>
    settles(async () =>
      expect(await isValid(given)).toContain(`<current unit='KiB'>${mib * 1024}</current>`),
    );
  await current(32);
  expect(await virsh('dominfo', 'one')).toMatch(/Max memory: +393216 KiB\s+Used memory: +163840 KiB/);
  await virsh('update-memory-device', 'one', '--live', '--requested-size', '128M');
  await current(128);
  expect(await virsh('dommemstat', 'one')).toMatch(/actual 262144/);
  await virsh('update-memory-device', 'one', '--live', '--config', '--requested-size', '64M');
  await current(64);
  expect(await isValid(given, '--inactive')).toContain("<requested unit='KiB'>65536</requested>");
  expect(await refused('update-memory-device', 'one', '--live', '--requested-size', '512M')).toMatch(
    /requested size must be smaller/,
  );
  expect(await refused('setmem', 'one', '256M')).toMatch(/more comes by update-memory-device/);
  expect(await refused('attach-device', 'one', device(given, dimm(128)), '--live')).toMatch(
    /'maxMemory' is not above 'memory'/,
  );
  const own = device(given, `<memory model='virtio-mem'>${target(0)}</memory>`);
  expect(await refused('detach-device', 'one', own, '--live')).toMatch(/stays while the machine runs/);
  await virsh('detach-device', 'one', own, '--config');
  expect(await isValid(given, '--inactive')).not.toContain('virtio-mem');
  await virsh('attach-device', 'one', own, '--config');
  await virsh('destroy', 'one');
  expect(await isValid(given)).toContain("<requested unit='KiB'>0</requested>");
});

test('vCPUs that a guest starts and gives up', async () => {
  const given = await host();
  const { virsh, refused, daemon } = given;
  await domain(given, { sizes: "<memory unit='MiB'>128</memory>", cmdline: 'run=vcpus', vcpu: '4' });
  const count = async (...options: string[]) => Number(await virsh('vcpucount', 'one', ...options));
  const counts = async () => [
    await count('--current', '--live'),
    await count('--maximum', '--live'),
    await count('--current', '--config'),
  ];
  const pending = async () =>
    JSON.parse(await daemon.tsvmm('ctl', 'one', 'info', '--json')).pending_vcpus as unknown;
  const known = async () =>
    [...(await virsh('vcpuinfo', 'one')).matchAll(/^VCPU: +(\d+)/gm)].map(([, vcpu]) => vcpu);
  expect(await counts()).toEqual([1, 4, 1]);
  await virsh('setvcpus', 'one', '3', '--live');
  await settles(async () => expect(await pending()).toBeUndefined());
  expect(await counts()).toEqual([3, 4, 1]);
  expect(await known()).toEqual(['0', '1', '2']);
  // virsh tells no time of one that has not had a whole tick of the host's clock yet.
  const running = /VCPU: +2\nCPU: +\d+\nState: +running\nCPU time: +[\d.]+s/;
  await settles(async () => expect(await virsh('vcpuinfo', 'one')).toMatch(running));

  await virsh('vcpupin', 'one', '2', '0', '--live');
  expect(await virsh('vcpupin', 'one', '--vcpu', '2')).toMatch(/^ 2 +0$/m);
  expect(await refused('vcpupin', 'one', '3', '0', '--live')).toMatch(
    /vcpu 3 is out of range of live cpu count/,
  );
  await virsh('vcpupin', 'one', '3', '0', '--config');

  await virsh('setvcpus', 'one', '2', '--live', '--config');
  expect(await counts()).toEqual([2, 4, 2]);
  expect(await known()).toEqual(['0', '1']);
  expect(await refused('setvcpus', 'one', '5', '--live')).toMatch(/greater than max allowable vcpus/);
  await virsh('setvcpus', 'one', '4', '--live');
  await settles(async () => expect(await pending()).toBeUndefined());
  expect(await known()).toEqual(['0', '1', '2', '3']);
  await virsh('destroy', 'one');
  expect(await virsh('vcpupin', 'one', '--vcpu', '3', '--config')).toMatch(/^ 3 +0$/m);
});

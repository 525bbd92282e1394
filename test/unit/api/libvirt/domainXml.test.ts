import { expect, test } from 'vitest';
import { targetName } from '../../../../src/api/libvirt/deviceDocument.ts';
import { attachableOf, parseDevice } from '../../../../src/api/libvirt/deviceXml.ts';
import { domainDocument } from '../../../../src/api/libvirt/domainDocument.ts';
import { readDomainXml } from '../../../../src/api/libvirt/domainXml.ts';
import { decode } from '../../../../src/config/decode.ts';
import { vmConfig } from '../../../../src/config/vmConfig.ts';

const UUID = '00010203-0405-0607-0809-0a0b0c0d0e0f';
const OS = "<os><type arch='x86_64'>hvm</type><kernel>/k</kernel></os>";
const domain = (inside: string, os = OS) =>
  `<domain type='kvm'><name>a</name><memory unit='MiB'>512</memory>${os}${inside}</domain>`;
const devices = (inside: string) => domain(`<devices>${inside}</devices>`);

const FULL = `<domain type='kvm' id='7'>
  <name>web1</name><uuid>${UUID.toUpperCase()}</uuid>
  <title>The &lt;web&gt; server</title>
  <metadata><app:x xmlns:app='urn:app'><app:y key="it's"/></app:x></metadata>
  <memory unit='GiB'>2</memory><currentMemory unit='MiB'>1536</currentMemory>
  <memoryBacking><access mode='shared'/></memoryBacking>
  <vcpu current='2'>4</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>/k</kernel><initrd>/i</initrd><cmdline>a &amp; b</cmdline></os>
  <cpu mode='host-model'><topology sockets='1' cores='2' threads='2'/></cpu>
  <on_reboot>destroy</on_reboot>
  <devices>
    <disk type='file'><driver name='qemu' type='qcow2' cache='none' queues='2'/><source file='/d.qcow2'/>
      <target dev='vda' bus='virtio'/><serial>abc</serial></disk>
    <disk type='block' device='disk'><source dev='/dev/sdx'/><target dev='vdb'/><readonly/></disk>
    <interface type='user'><mac address='52:54:00:12:34:56'/><model type='virtio'/></interface>
    <interface type='ethernet'><target dev='tap0'/><mtu size='1400'/><driver queues='2'/></interface>
    <interface type='bridge'><source bridge='br0'/><target dev='tap1'/></interface>
    <serial type='pty'/><console type='pty'><target type='serial'/></console>
    <vsock model='virtio'><cid auto='no' address='5'/></vsock>
    <rng model='virtio'><backend model='random'>/dev/hwrng</backend></rng>
    <memballoon model='virtio' autodeflate='on'/>
    <watchdog model='i6300esb'/><panic model='pvpanic'/><controller type='usb'/><input type='mouse'/>
  </devices>
</domain>`;

test('a document with everything that a machine can have', () => {
  const { name, uuid, config } = readDomainXml(FULL);
  expect({ name, uuid }).toEqual({ name: 'web1', uuid: UUID });
  expect(config).toEqual({
    payload: { kernel: '/k', initramfs: '/i', cmdline: 'a & b' },
    cpus: {
      boot_vcpus: 2,
      max_vcpus: 4,
      topology: { packages: 1, dies_per_package: 1, cores_per_die: 2, threads_per_core: 2 },
    },
    memory: { size: 2 ** 31, shared: true },
    balloon: { size: 512 << 20, deflate_on_oom: true },
    disks: [
      {
        id: 'vda',
        path: '/d.qcow2',
        image_type: 'Qcow2',
        backing_files: true,
        direct: true,
        num_queues: 2,
        serial: 'abc',
      },
      { id: 'vdb', path: '/dev/sdx', image_type: 'Raw', readonly: true },
    ],
    net: [
      { mac: '52:54:00:12:34:56', user: true },
      { mtu: 1400, num_queues: 4, tap: 'tap0' },
      { tap: 'tap1', bridge: 'br0' },
    ],
    serial: { mode: 'Socket', socket: 'serial.sock' },
    console: { mode: 'Off' },
    vsock: { cid: 5, socket: 'vsock.sock' },
    rng: { src: '/dev/hwrng' },
    watchdog: true,
    pvpanic: true,
  });
  expect(() => decode(vmConfig, config)).not.toThrow();
});

test('what is written defines the same machine, and is written in the same way again', () => {
  const first = readDomainXml(FULL);
  const written = domainDocument({ ...first, uuid: UUID });
  expect(written).toContain('<title>The &lt;web&gt; server</title>');
  expect(written).toContain("<app:y key='it&apos;s'/>");
  expect(written).toContain('<on_reboot>destroy</on_reboot>');
  const second = readDomainXml(written);
  expect(second.config).toEqual(first.config);
  expect(domainDocument({ ...second, uuid: UUID })).toBe(written);
});

test.each([
  ['B', 1n],
  ['byte', 1n],
  ['kb', 1_000n],
  ['k', 1n << 10n],
  ['Gib', 1n << 30n],
  ['TB', 10n ** 12n],
  ['P', 1n << 50n],
  ['eib', 1n << 60n],
])('sizes have units as libvirt knows them: %s', (unit, bytes) => {
  const more = domain('').replace(/<memory .*?>.*?<\/memory>/, `<memory unit='${unit}'>3</memory>`);
  expect(BigInt(readDomainXml(more).config.memory?.size ?? 0)).toBe(3n * bytes);
});

test('a domain has a balloon where its memory asks for one', () => {
  expect(readDomainXml(domain('')).config).not.toHaveProperty('balloon');
  const less = domain("<currentMemory unit='MiB'>256</currentMemory>");
  expect(readDomainXml(less).config.balloon).toEqual({ size: 256 << 20 });
});

test.each([
  ['', /domain_definition\):\d+: .*document/],
  ['<domain', /domain_definition/],
  ['<domain type="kvm"><name>a</domain>', /domain_definition\):1: /],
  ['<a/>', /unexpected root element <a>/],
  ['<!DOCTYPE d [<!ENTITY e "x">]><domain type="kvm"/>', /a DOCTYPE is not accepted/],
  ["<domain type='kvm'><name>&e;</name></domain>", /domain_definition/],
  [`${'<a>'.repeat(100)}${'</a>'.repeat(100)}`, /too many elements/],
  [`<domain>${'<a/>'.repeat(30_000)}</domain>`, /too many elements/],
  ["<domain type='qemu'/>", /domain type 'qemu'/],
  ["<domain type='kvm'/>", /missing element <memory>/],
  ["<domain type='kvm'><memory>1</memory></domain>", /missing element <os>|missing element <name>/],
  [domain('').replace('<name>a</name>', ''), /missing element <name>/],
  [domain('').replace('512', 'many'), /<memory> is 'many'/],
  [domain('').replace('MiB', 'MoB'), /unknown unit 'MoB'/],
  [
    domain(
      "<devices><disk><driver type='constructor'/><source file='/a'/><target dev='vda'/></disk></devices>",
    ),
    /the disk format 'constructor'/,
  ],
  [domain('').replace('MiB', 'constructor'), /unknown unit 'constructor'/],
  [domain('').replace('MiB', 'EiB'), /memory are more than 64 bits hold/],
  [domain('', '<os><type>xen</type></os>'), /os type 'xen'/],
  [domain('', "<os><type arch='aarch64'>hvm</type></os>"), /architecture 'aarch64'/],
  [domain('', "<os><type>hvm</type><boot dev='hd'/></os>"), /boots a <kernel>/],
  [
    domain("<currentMemory unit='MiB'>256</currentMemory><devices><memballoon model='none'/></devices>"),
    /a <memballoon> of model 'none'/,
  ],
  [devices("<disk type='network'/>"), /disk of type 'network'/],
  [devices("<disk><source file='/d'/><target dev='sda' bus='scsi'/></disk>"), /bus 'scsi' of disk 'sda'/],
  [devices("<disk><source file='/d'/><target dev='sda'/></disk>"), /bus 'scsi' of disk 'sda'/],
  [devices("<disk><source file='/d'/><target dev='vd a'/></disk>"), /the target 'vd a' of a disk/],
  [devices('<disk><transient/></disk>'), /<transient> in <disk>/],
  [devices('<disk><shareable/></disk>'), /<shareable> in <disk>/],
  [devices('<disk><iotune><total_bytes_sec>1</total_bytes_sec></iotune></disk>'), /<iotune> in <disk>/],
  [devices("<disk><encryption format='luks'/></disk>"), /<encryption> in <disk>/],
  [devices("<disk><source file='/d'><encryption format='luks'/></source></disk>"), /<encryption> in <disk>/],
  [devices("<interface><filterref filter='clean-traffic'/></interface>"), /<filterref> in <interface>/],
  [devices("<interface><vlan><tag id='1'/></vlan></interface>"), /<vlan> in <interface>/],
  [
    devices("<interface><bandwidth><inbound average='1'/></bandwidth></interface>"),
    /<bandwidth> in <interface>/,
  ],
  [devices("<interface><portForward proto='tcp'/></interface>"), /<portForward> in <interface>/],
  [devices("<disk device='floppy'/>"), /disk that is a 'floppy'/],
  [devices("<interface type='bridge'/>"), /missing <source> with the bridge/],
  [devices("<interface type='direct'/>"), /interface of type 'direct'/],
  [devices("<interface type='user'><model type='e1000'/></interface>"), /interface model 'e1000'/],
  [domain('<on_poweroff>preserve</on_poweroff>'), /<on_poweroff> 'preserve'/],
  [domain('<on_reboot>preserve</on_reboot>'), /<on_reboot> 'preserve'/],
  [domain('<on_crash>coredump-restart</on_crash>'), /<on_crash> 'coredump-restart'/],
  [
    domain('<on_poweroff>restart</on_poweroff>'),
    /<on_poweroff> 'restart' without <on_reboot> and <on_crash>/,
  ],
  [devices("<hostdev mode='subsystem'/>"), /a <hostdev> device/],
  [devices("<serial type='tcp'/>"), /a serial of type 'tcp'/],
  [devices("<serial type='pty'/><serial type='pty'/>"), /more than one serial port/],
])('%.60s is refused', (xml, message) => {
  expect(() => readDomainXml(xml)).toThrow(message);
});

test.each([
  ["<disk><source file='/d'/><target dev='vdb'/></disk>", 'disk', { path: '/d', id: 'vdb' }],
  ["<interface type='ethernet'><target dev='t0'/></interface>", 'net', { tap: 't0' }],
  ["<vsock><cid auto='no' address='9'/></vsock>", 'vsock', { cid: 9 }],
])('%s can be attached', (xml, kind, device) => {
  expect(attachableOf(parseDevice(xml))).toMatchObject({ kind, device });
});

test.each([
  ["<disk><source file='/d'/></disk>", /missing target information/],
  ["<hostdev mode='subsystem'/>", /unknown device type 'hostdev'/],
  ["<domain type='kvm'/>", /unknown device type 'domain'/],
  ['<disk>', /\(device_definition\):1: /],
  ['<!DOCTYPE x><disk/>', /DOCTYPE/],
])('%s cannot', (xml, message) => {
  expect(() => attachableOf(parseDevice(xml))).toThrow(message);
});

test.each([
  ['', 'Never', []],
  ['<on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash/>', 'Never', []],
  ['<on_crash>restart</on_crash><on_reboot>destroy</on_reboot>', 'OnFailure', ['reset']],
  ['<on_poweroff>restart</on_poweroff><on_crash>restart</on_crash>', 'Always', []],
  ["<devices><panic model='pvpanic'/></devices>", 'Never', ['panic']],
])('what follows from the guest: %s', (inside, restart, endOn) => {
  const document = readDomainXml(domain(inside));
  expect(document.actions).toEqual({ restart, endOn });
  const written = domainDocument({ ...document, uuid: UUID });
  expect(readDomainXml(written).actions).toEqual(document.actions);
});

test('names of disks go on after vdz', () => {
  expect([0, 25, 26, 51, 52, 701, 702].map(targetName)).toEqual([
    'vda',
    'vdz',
    'vdaa',
    'vdaz',
    'vdba',
    'vdzz',
    'vdaaa',
  ]);
});

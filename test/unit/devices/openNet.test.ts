import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Descriptor } from '../../../src/boundary/cbor.ts';
import { decode } from '../../../src/config/decode.ts';
import { openNet } from '../../../src/devices/net/openNet.ts';
import { type NetConfig, type NetResource, netConfig, net as netRecord } from '../../../src/devices/net.ts';
import { FileKind } from '../../../src/host/openFlags.ts';
import { describeError } from '../../../src/vmm/errors.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';
import { failure } from '../support/fakeNetwork.ts';

let native: FakeNative;
let opened: number[];
let notes: string[];

beforeEach(() => {
  native = fakeNative('/nowhere');
  opened = [];
  notes = [];
});

afterEach(() => {
  for (const fd of opened) native.closeFile(fd);
  expect([...native.files.open]).toEqual([]);
});

const descriptor = (fd: number) => new Descriptor(fd);

function net(fields: object): NetConfig {
  return decode(netConfig, { mac: '2e:00:00:00:00:01', vhost: false, ...fields });
}

async function open(...nets: object[]): Promise<NetResource[]> {
  const tell = (message: string) => notes.push(message);
  const resources: NetResource[] = [];
  for (const one of nets.map(net))
    resources.push(await openNet({ native, opened, note: tell, warn: tell }, one));
  return resources;
}

async function refusal(fields: object): Promise<string> {
  try {
    await open(fields);
  } catch (error) {
    return describeError(error);
  }
  throw new Error('it was opened');
}

function prepared(name: string, fields: object = {}): void {
  native.network.interfaces.set(name, {
    up: true,
    mtu: 1400,
    mac: Uint8Array.of(2, 0, 0, 0, 0, 9),
    addresses: [],
    ...fields,
  });
}

describe('MAC addresses', () => {
  it('are random and locally administered unless given', () => {
    const nets = [decode(netConfig, {}), decode(netConfig, {}), net({})];
    for (const one of nets) netRecord.complete?.(one);
    const [first, second, third] = nets.map(({ mac }) => mac);
    expect(first).toMatch(/^2e(:[0-9a-f]{2}){5}$/);
    expect(second).not.toBe(first);
    expect(third).toBe('2e:00:00:00:00:01');
    for (const one of nets) netRecord.complete?.(one);
    expect(nets[0]?.mac).toBe(first);
  });
});

describe('taps', () => {
  it('are made, set up and switched on', async () => {
    const [resource] = await open({
      num_queues: 4,
      ip: '192.0.2.1',
      mask: '255.255.255.0',
      host_mac: '02:00:00:00:00:07',
      mtu: 9000,
    });
    expect(resource).toEqual({
      network: { kind: 'tap', fds: opened.map(descriptor), vhost: [] },
      mac: Uint8Array.of(0x2e, 0, 0, 0, 0, 1),
      mtu: 9000,
    });
    expect(opened).toHaveLength(2);
    expect(native.network.changes).toEqual([
      'vmtap0 mac 2,0,0,0,0,7',
      'vmtap0 mtu 9000',
      'vmtap0 192.0.2.1/255.255.255.0',
      'vmtap0 up',
    ]);
  });

  it('that are prepared need no privileges', async () => {
    native.network.privileged = false;
    prepared('tap0');
    expect(await open({ tap: 'tap0', mtu: 1400, host_mac: '02:00:00:00:00:09' })).toMatchObject([
      { mtu: 1400 },
    ]);
    expect(await open({ tap: 'tap0' })).toMatchObject([{ mtu: 1400 }]);
    expect(native.network.changes).toEqual([]);
  });

  it('are put into a bridge, once', async () => {
    prepared('br0', { tap: false });
    prepared('tap0');
    await open({ tap: 'tap0', bridge: 'br0' });
    await open({ tap: 'tap0', bridge: 'br0' });
    expect(native.network.changes).toEqual(['tap0 in br0']);
    expect(await refusal({ tap: 'tap0', bridge: 'br1' })).toBe(
      'Cannot put into the bridge br1 the tap tap0: no such interface',
    );
    native.network.privileged = false;
    prepared('br1', { tap: false });
    expect(await refusal({ tap: 'tap0', bridge: 'br1' })).toContain('that needs CAP_NET_ADMIN');
  });

  it('that need privileges say so', async () => {
    native.network.privileged = false;
    prepared('down', { up: false });
    prepared('eth0', { tap: false });
    expect(await refusal({ tap: 'new' })).toMatch(
      /^Cannot open the tap new: that needs CAP_NET_ADMIN, or a tap that was made for this user/,
    );
    expect(await refusal({})).toMatch(/^Cannot open the tap: that needs CAP_NET_ADMIN/);
    expect(await refusal({ tap: 'down' })).toBe('Cannot switch on the tap down: that needs CAP_NET_ADMIN');
    prepared('up');
    expect(await refusal({ tap: 'up', mtu: 1500 })).toBe(
      'Cannot set MTU 1500 on the tap up: that needs CAP_NET_ADMIN',
    );
    expect(await refusal({ tap: 'eth0' })).toMatch(/no tap$/);
    expect(await refusal({ tap: 'eth0', num_queues: 4 })).toContain('multi_queue');
  });

  it.each([
    ['EBUSY', 'TUNSETIFF: busy', 'Cannot open the tap t: another process uses it'],
    ['ENOENT', 'opening /dev/net/tun: no', 'this host has no /dev/net/tun (kernel module tun)'],
    ['EACCES', 'opening /dev/net/tun: denied', 'this user may not open /dev/net/tun'],
    ['ENFILE', 'too many', 'Cannot open the tap t: too many'],
  ])('that fail with %s (%s) say why', async (code, message, expected) => {
    native.openTap = () => {
      throw failure(code, message);
    };
    expect(await refusal({ tap: 't' })).toContain(expected);
  });

  it('tell what cannot be set', async () => {
    native.setInterfaceAddress = () => {
      throw failure('EINVAL', 'not an IP address');
    };
    prepared('t');
    expect(await refusal({ tap: 't', ip: 'f::', mask: ':::' })).toBe(
      'Cannot set the address f:: on the tap t: not an IP address',
    );
  });
});

describe('descriptors', () => {
  const queue = { name: 'tap0', tap: true, vnetHeader: true, multiQueue: true };

  it('are used as they are and stay open', async () => {
    native.network.queues.set(40, queue).set(41, queue);
    prepared('tap0');
    expect(await open({ fds: [40, 41], num_queues: 4 })).toMatchObject([
      { network: { kind: 'tap', fds: [40, 41].map(descriptor) }, mtu: 1400 },
    ]);
    expect(opened).toEqual([]);
  });

  it('may be of an interface elsewhere', async () => {
    native.network.queues.set(40, queue);
    const [resource] = await open({ fds: [40], ip: '192.0.2.1', mask: '255.0.0.0' });
    expect(resource).not.toHaveProperty('mtu');
    expect(native.network.changes).toEqual([]);
  });

  it.each([
    [[50], 'Descriptor 50 is not of a tap'],
    [[42], 'Descriptor 42 is of tun0, which is a tun and not a tap'],
    [[43], 'Descriptor 43 of the tap tap0 was opened without IFF_VNET_HDR'],
    [[40, 44], 'The descriptors are of two taps, tap0 and tap1'],
  ])('%j: %s', async (fds, message) => {
    native.network.queues
      .set(40, queue)
      .set(42, { ...queue, name: 'tun0', tap: false })
      .set(43, { ...queue, vnetHeader: false })
      .set(44, { ...queue, name: 'tap1' });
    expect(await refusal({ fds, num_queues: 2 * fds.length })).toContain(message);
  });
});

describe('user networking', () => {
  it('is a stream to a passt of its own', async () => {
    const path = process.env.PATH;
    const folder = mkdtempSync(join(tmpdir(), 'tsvmm-nets-'));
    writeFileSync(join(folder, 'passt'), '#!/bin/sh\n', { mode: 0o755 });
    process.env.PATH = folder;
    try {
      const [first, second] = await open({ user: true, mtu: 1400 }, { user: true });
      expect(opened).toHaveLength(2);
      expect(first).toMatchObject({ network: { kind: 'stream', fd: { fd: opened[0] } }, mtu: 1400 });
      expect(second?.network).toEqual({ kind: 'stream', fd: { fd: opened[1] } });
      expect(second).not.toHaveProperty('mtu');
    } finally {
      process.env.PATH = path;
      rmSync(folder, { recursive: true });
    }
  });
});

describe('vhost-net', () => {
  /** What /dev/vhost-net does when it is opened for the n-th time. */
  function vhostNet(does: (count: number) => number): void {
    const { openFile } = native;
    let count = 0;
    native.openFile = (path, flags, mode, kinds) =>
      path === '/dev/vhost-net' ? does(++count) : openFile(path, flags, mode, kinds);
  }
  const works = () => native.files.openFile('/dev/null', 2, 0, FileKind.character);

  it('is opened for each pair of queues where the host has it', async () => {
    vhostNet(works);
    const [resource] = await open({ num_queues: 4, vhost: undefined });
    expect(opened).toHaveLength(4);
    expect(resource?.network).toEqual({
      kind: 'tap',
      fds: opened.slice(0, 2).map(descriptor),
      vhost: opened.slice(2).map(descriptor),
    });
    expect(notes).toEqual(['The tap vmtap0 is served by vhost-net']);
  });

  it('is not touched when it is not wanted', async () => {
    vhostNet(() => {
      throw new Error('it was opened');
    });
    await open({ vhost: false });
    expect(notes).toEqual([]);
  });

  it.each([
    ['ENOENT', 'this host has no /dev/vhost-net (kernel module vhost_net)'],
    ['EACCES', 'this user may not open /dev/vhost-net'],
    ['EMFILE', '/dev/vhost-net cannot be opened (EMFILE)'],
  ])('is done without after %s, unless it was asked for', async (code, why) => {
    const second = (count: number) => {
      if (count % 2 === 0) throw failure(code, 'no');
      return works();
    };
    vhostNet(second);
    const [resource] = await open({ num_queues: 4, vhost: undefined });
    expect(resource?.network).toMatchObject({ vhost: [] });
    expect(notes).toEqual([`The tap vmtap0 is served without vhost-net: ${why}`]);
    expect(await refusal({ num_queues: 4, vhost: true })).toContain(
      `The tap vmtap1 cannot be served by vhost-net: ${why}`,
    );
  });

  it('does not go with a rate limit', async () => {
    vhostNet(works);
    const [resource] = await open({
      vhost: undefined,
      rate_limiter_config: { bandwidth: { size: 1, refill_time: 1 } },
    });
    expect(resource?.network).toMatchObject({ vhost: [] });
    expect(notes[0]).toContain('does not keep rate limits');
  });
});

import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { type NetConfig, netConfig } from '../../../src/config/devices/net.ts';
import { describeError } from '../../../src/vmm/errors.ts';
import { assignMacs, openNets } from '../../../src/vmm/nets.ts';
import { type FakeNative, fakeNative } from '../support/fakeNative.ts';
import { failure } from '../support/fakeNetwork.ts';

let native: FakeNative;
let opened: number[];

beforeEach(() => {
  native = fakeNative('/nowhere');
  opened = [];
});

afterEach(() => {
  for (const fd of opened) native.closeFile(fd);
  expect([...native.files.open]).toEqual([]);
});

function net(fields: object): NetConfig {
  return decode(netConfig, { mac: '2e:00:00:00:00:01', ...fields });
}

function open(...nets: object[]) {
  return openNets(native, nets.map(net), opened);
}

function refusal(fields: object): string {
  try {
    open(fields);
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
    assignMacs(nets);
    const [first, second, third] = nets.map(({ mac }) => mac);
    expect(first).toMatch(/^2e(:[0-9a-f]{2}){5}$/);
    expect(second).not.toBe(first);
    expect(third).toBe('2e:00:00:00:00:01');
    assignMacs(nets);
    expect(nets[0]?.mac).toBe(first);
  });
});

describe('taps', () => {
  it('are made, set up and switched on', () => {
    const [resource] = open({
      num_queues: 4,
      ip: '192.0.2.1',
      mask: '255.255.255.0',
      host_mac: '02:00:00:00:00:07',
      mtu: 9000,
    });
    expect(resource).toEqual({
      network: { kind: 'tap', fds: opened },
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

  it('that are prepared need no privileges', () => {
    native.network.privileged = false;
    prepared('tap0');
    expect(open({ tap: 'tap0', mtu: 1400, host_mac: '02:00:00:00:00:09' })).toMatchObject([{ mtu: 1400 }]);
    expect(open({ tap: 'tap0' })).toMatchObject([{ mtu: 1400 }]);
    expect(native.network.changes).toEqual([]);
  });

  it('that need privileges say so', () => {
    native.network.privileged = false;
    prepared('down', { up: false });
    prepared('eth0', { tap: false });
    expect(refusal({ tap: 'new' })).toMatch(
      /^Cannot open the tap new: that needs CAP_NET_ADMIN, or a tap that was made for this user/,
    );
    expect(refusal({})).toMatch(/^Cannot open the tap: that needs CAP_NET_ADMIN/);
    expect(refusal({ tap: 'down' })).toBe('Cannot switch on the tap down: that needs CAP_NET_ADMIN');
    prepared('up');
    expect(refusal({ tap: 'up', mtu: 1500 })).toBe(
      'Cannot set MTU 1500 on the tap up: that needs CAP_NET_ADMIN',
    );
    expect(refusal({ tap: 'eth0' })).toMatch(/no tap$/);
    expect(refusal({ tap: 'eth0', num_queues: 4 })).toContain('multi_queue');
  });

  it.each([
    ['EBUSY', 'TUNSETIFF: busy', 'Cannot open the tap t: another process uses it'],
    ['ENOENT', 'opening /dev/net/tun: no', 'this host has no /dev/net/tun (kernel module tun)'],
    ['EACCES', 'opening /dev/net/tun: denied', 'this user may not open /dev/net/tun'],
    ['ENFILE', 'too many', 'Cannot open the tap t: too many'],
  ])('that fail with %s (%s) say why', (code, message, expected) => {
    native.openTap = () => {
      throw failure(code, message);
    };
    expect(refusal({ tap: 't' })).toContain(expected);
  });

  it('tell what cannot be set', () => {
    native.setInterfaceAddress = () => {
      throw failure('EINVAL', 'not an IP address');
    };
    prepared('t');
    expect(refusal({ tap: 't', ip: 'f::', mask: ':::' })).toBe(
      'Cannot set the address f:: on the tap t: not an IP address',
    );
  });
});

describe('descriptors', () => {
  const queue = { name: 'tap0', tap: true, vnetHeader: true, multiQueue: true };

  it('are used as they are and stay open', () => {
    native.network.queues.set(40, queue).set(41, queue);
    prepared('tap0');
    expect(open({ fds: [40, 41], num_queues: 4 })).toMatchObject([
      { network: { kind: 'tap', fds: [40, 41] }, mtu: 1400 },
    ]);
    expect(opened).toEqual([]);
  });

  it('may be of an interface elsewhere', () => {
    native.network.queues.set(40, queue);
    const [resource] = open({ fds: [40], ip: '192.0.2.1', mask: '255.0.0.0' });
    expect(resource).not.toHaveProperty('mtu');
    expect(native.network.changes).toEqual([]);
  });

  it.each([
    [[50], 'Descriptor 50 is not of a tap'],
    [[42], 'Descriptor 42 is of tun0, which is a tun and not a tap'],
    [[43], 'Descriptor 43 of the tap tap0 was opened without IFF_VNET_HDR'],
    [[40, 44], 'The descriptors are of two taps, tap0 and tap1'],
  ])('%j: %s', (fds, message) => {
    native.network.queues
      .set(40, queue)
      .set(42, { ...queue, name: 'tun0', tap: false })
      .set(43, { ...queue, vnetHeader: false })
      .set(44, { ...queue, name: 'tap1' });
    expect(refusal({ fds, num_queues: 2 * fds.length })).toContain(message);
  });
});

import { describe, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { validateVmConfig } from '../../../src/config/validate.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';
import { parseMac, queuePairs } from '../../../src/devices/net.ts';

function check(net: object): void {
  const cpus = { boot_vcpus: 2, max_vcpus: 2 };
  validateVmConfig(decode(vmConfig, { payload: { kernel: '/k' }, cpus, net: [net] }));
}

describe('network devices', () => {
  it.each([
    {},
    { tap: 'tap0', mac: '2E:00:00:00:00:ff', host_mac: '02:00:00:00:00:01', mtu: 1280 },
    { ip: '192.0.2.1', mask: '255.255.255.0' },
    { ip: '2001:db8::1', mask: 'ffff:ffff:ffff:ffff::' },
    { fds: [3, 4], num_queues: 4 },
    { fds: [] },
    { num_queues: 5, queue_size: 32_768 },
    { offload_tso: false, offload_ufo: false, offload_csum: false },
    { user: true, forward: ['tcp:2222:22'], mtu: 1400 },
    { vhost: true },
  ])('are accepted: %j', (net) => {
    expect(() => check(net)).not.toThrow();
  });

  it.each([
    [{ num_queues: 1 }, 'The network device needs at least two queues'],
    [
      { num_queues: 6, id: 'lan' },
      'The network device lan has more pairs of queues (3) than there can be vCPUs',
    ],
    [{ queue_size: 100 }, 'queue_size 100, which is not a power of two'],
    [{ queue_size: 1 }, 'queue_size 1, which is not a power of two'],
    [{ mtu: 1279 }, 'MTU 1279, which is below 1280'],
    [{ mac: '2e:00:00:00:00' }, 'mac: invalid value "2e:00:00:00:00", expected one like 12:34:56:78:90:ab'],
    [{ host_mac: '2e-00-00-00-00-00' }, 'host_mac: invalid value "2e-00-00-00-00-00"'],
    [{ mac: '03:00:00:00:00:01' }, 'which is one of a group: write 02:00:00:00:00:01'],
    [{ ip: '192.0.2.1' }, 'needs ip and mask together'],
    [{ mask: '255.0.0.0' }, 'needs ip and mask together'],
    [{ ip: '192.0.2.256', mask: '255.0.0.0' }, '"192.0.2.256", which is no IP address'],
    [{ ip: '192.0.2.1', mask: '24' }, 'mask: invalid value "24", expected one like 255.255.255.0'],
    [{ ip: '', mask: '' }, 'ip: invalid value "", expected one like 192.0.2.1'],
    [{ ip: '192.0.2.1', mask: 'ffff::' }, 'of different kinds'],
    [{ tap: 'a b' }, 'no interface can be called'],
    [{ tap: '' }, 'no interface can be called'],
    [{ tap: 'a/b' }, 'no interface can be called'],
    [{ tap: '0123456789abcdef' }, 'at most 15 bytes'],
    [{ fds: [2] }, 'cannot use descriptor 2'],
    [{ fds: [3, 3], num_queues: 4 }, 'the same descriptor twice'],
    [{ fds: [3], num_queues: 4 }, 'has 1 descriptors, so num_queues must be 2'],
    [{ fds: [3], tap: 't' }, 'both a tap and descriptors'],
    [{ offload_csum: false }, 'without offload_csum'],
    [{ forward: ['tcp:2222:22'] }, 'which only user networking knows'],
    [{ user: true, forward: ['tcp:22'] }, 'The port forward "tcp:22" is not like'],
    [{ user: true, tap: 't' }, 'has user networking, which has no tap'],
    [{ user: true, fds: [3] }, 'has user networking, which has no fd'],
    [{ user: true, host_mac: '02:00:00:00:00:01' }, 'has user networking, which has no host_mac'],
    [{ user: true, num_queues: 4 }, 'one pair of queues'],
    [{ user: true, vhost: true }, 'cannot serve (vhost)'],
    [{ vhost: true, rate_limiter_config: { ops: { size: 1, refill_time: 1 } } }, 'does not keep (vhost)'],
  ])('%j is refused: %s', (net, message) => {
    expect(() => check(net)).toThrow(message);
  });

  it('have slots and names of their own', () => {
    const devices = { disks: [{ path: '/d', id: 'x' }], net: [{ id: 'x' }] };
    const config = decode(vmConfig, { payload: { kernel: '/k' }, ...devices });
    expect(() => validateVmConfig(config)).toThrow('Identifier x is not unique');
  });

  it('make a pair of two queues', () => {
    const net = decode(vmConfig, { net: [{ num_queues: 7 }] }).net?.[0];
    expect(net && queuePairs(net)).toBe(3);
  });

  it('have MAC addresses of six bytes', () => {
    expect(parseMac('2e:00:00:00:0A:ff')).toEqual(Uint8Array.of(0x2e, 0, 0, 0, 10, 255));
  });
});

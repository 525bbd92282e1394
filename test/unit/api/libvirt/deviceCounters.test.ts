import { expect, test } from 'vitest';
import { disksOf, interfacesOf } from '../../../../src/api/libvirt/deviceCounters.ts';

test('disks and interfaces that nobody named are counted by the names that the machine gives them', () => {
  const config = {
    disks: [{ path: '/a' }, { path: '/b', id: 'vdb' }, { path: '/c' }],
    net: [{}, { id: 'lan' }, {}],
  };
  const counted = (...names: string[]) =>
    Object.fromEntries(names.map((name, at) => [name, { read_ops: at }]));
  // One counter numbers all of them.
  const counters = counted('_disk0', 'vdb', '_disk1', '_net2', 'lan', '_net3');
  const all = [...disksOf(config, counters), ...interfacesOf(config, counters)];
  expect(all.map((one) => one.counters.read_ops)).toEqual([0, 1, 2, 3, 4, 5]);
});

import { expect, test } from 'vitest';
import { exitsOf, failureOf, parseRecord, resultOf, sampleOf } from '../../../bench/io/record.mjs';

const GUEST = [
  'guest result ops=1000 bytes=4096000 cycles=2000000000 kicks=50 distinct-units=7',
  'guest quantiles 0:100 500000:2000 990000:8000 1000000:9000',
  'guest ok blk-data',
  'guest done 2',
];
const HELPER = [
  'tsc-mhz 2000.000',
  'wall 1000000000',
  'cpu 5000000',
  'cpu-vcpu 3000000',
  'rest 1000 250',
  'net tap0 10 1 20 2',
  'status 0',
];

test('rates, CPU time and latencies of a run', () => {
  const record = parseRecord([...GUEST, ...HELPER].join('\n'));
  expect(failureOf(record)).toBeUndefined();
  expect(resultOf(record).get('distinct-units')).toBe(7);
  expect(sampleOf(record, 'operations')).toEqual({
    rate: 1000,
    operations: 1000,
    cpu: 5000,
    cpuOutside: 2000,
    idle: 0.25,
    kicks: 0.05,
    quantiles: { 0: 50, 500000: 1000, 990000: 4000, 1000000: 4500 },
  });
  expect(sampleOf(record, 'bytes').rate).toBe(4096000);
  expect(record.interfaces).toEqual([
    { name: 'tap0', rxPackets: 10, rxDropped: 1, txPackets: 20, txDropped: 2 },
  ]);
});

test('exits, with and without kvm_exit', () => {
  const counted = (lines: string[]) => exitsOf(parseRecord([...GUEST, ...lines].join('\n')));
  expect(counted(['counter kvm_exit 0', 'counter kvm_mmio 50', 'counter kvm_userspace_exit 4'])).toEqual({
    all: 0.05,
    toUserSpace: 0.004,
  });
  expect(counted(['counter kvm_exit 500', 'counter kvm_mmio 50'])?.all).toBe(0.5);
  expect(counted(['counters-missing no tracefs'])).toBeUndefined();
});

test.each([
  [['guest not ok blk-verify: 3 of 256 blocks differ', ...GUEST], '3 of 256 blocks differ'],
  [
    ['guest begin', 'killed by the time limit', 'status 9'],
    'no result (killed by the time limit, wait status 9)',
  ],
  [['status 256'], 'no result (ended, wait status 256)'],
  [GUEST.slice(0, 3), 'did not come to its end'],
])('a failure is seen: %j', (lines, expected) => {
  expect(failureOf(parseRecord(lines.join('\n')))).toContain(expected);
});

import { describe, expect, it } from 'vitest';
import { Samples } from '../../../../src/cli/ctl/watch/samples.ts';
import { BLOCKS, LETTERS, levelsOf, sparkline } from '../../../../src/cli/ctl/watch/sparkline.ts';
import { rateText, viewLines } from '../../../../src/cli/ctl/watch/view.ts';

const SECOND = 1_000_000_000n;

describe('counters over time', () => {
  it('have rates by the second, none at first and after a reboot', () => {
    const samples = new Samples();
    const rate = (time: bigint, value: number | bigint) => samples.add(time, { d: { ops: value } })[0];
    expect(rate(0n, 100)).toMatchObject({ rate: undefined, history: [] });
    expect(rate(2n * SECOND, 300)).toMatchObject({ rate: 100, history: [100] });
    expect(rate(3n * SECOND, 300)).toMatchObject({ rate: 0, history: [100, 0] });
    expect(rate(4n * SECOND, 2n ** 63n)?.rate).toBeGreaterThan(9e18);
    expect(rate(5n * SECOND, 1)).toMatchObject({ rate: undefined, history: [] });
    expect(rate(6n * SECOND, 11)).toMatchObject({ rate: 10, history: [10] });
  });

  it('come and go with devices', () => {
    const samples = new Samples();
    samples.add(0n, { a: { x: 1 } });
    expect(samples.add(SECOND, { b: { x: 1 } })).toMatchObject([{ device: 'b', rate: undefined }]);
    expect(samples.add(2n * SECOND, { a: { x: 5 } })).toMatchObject([{ device: 'a', rate: undefined }]);
  });

  it('are no rates where something is measured', () => {
    const samples = new Samples();
    samples.add(0n, { d: { read_latency_avg: 18446744073709551615n } });
    const [row] = samples.add(SECOND, { d: { read_latency_avg: 12 } });
    expect(row).toMatchObject({ rate: undefined, history: [0, 12] });
  });
});

describe('a sparkline', () => {
  it.each([
    [[], 4, ''],
    [[0, 0], 4, '  '],
    [[1, 2, 4, 8], 4, '▁▂▄█'],
    [[1000, 1], 4, '█▁'],
    [[9, 1, 2], 2, '▄█'],
    [[Number.NaN, 1], 4, ' █'],
  ])('of %j in %d columns', (values, width, text) => {
    expect(sparkline(values as number[], width, BLOCKS)).toBe(text);
  });

  it('is made of letters where the locale has no others', () => {
    expect(levelsOf({ LANG: 'de_DE.UTF-8' })).toBe(BLOCKS);
    expect(levelsOf({ LC_ALL: 'C', LANG: 'de_DE.UTF-8' })).toBe(LETTERS);
    expect(levelsOf({})).toBe(LETTERS);
    expect(sparkline([1, 8], 2, LETTERS)).toBe('.@');
  });
});

describe('the view', () => {
  const row = (
    device: string,
    counter: string,
    value: number,
    rate: number | undefined,
    history: number[] = [],
  ) => ({
    device,
    counter,
    value,
    rate,
    history,
  });
  const rows = [
    row('_disk0', 'read_bytes', 4096, 2048, [1024, 2048]),
    row('_disk0', 'read_ops', 3, 0, [0, 0]),
    row('_disk0', 'read_latency_avg', 7, undefined, [5, 7]),
    row('_net1', 'rx_frames', 12345, 12345, [12345]),
  ];

  it('is a table with histories', () => {
    expect(viewLines({ title: 'Running', rows }, { columns: 70, rows: 24, levels: LETTERS })).toEqual([
      'Running',
      'DEVICE  COUNTER             NOW  A SECOND  HISTORY',
      '_disk0  read_bytes         4096   2 KiB/s  =@',
      '_disk0  read_ops              3       0/s',
      '_disk0  read_latency_avg   7 us            *@',
      '_net1   rx_frames         12345  12.3 k/s  @',
    ]);
  });

  it.each([
    [1, 1],
    [10, 2],
    [20, 4],
    [40, 3],
    [200, 100],
  ])('fits %d columns and %d rows', (columns, height) => {
    const lines = viewLines({ title: 'Running, 2 vCPUs', rows }, { columns, rows: height, levels: BLOCKS });
    expect(lines.length).toBeLessThanOrEqual(height);
    for (const line of lines) expect([...line].length).toBeLessThanOrEqual(columns);
  });

  it('drops first what does not move', () => {
    const lines = viewLines({ title: '', rows }, { columns: 80, rows: 5, levels: LETTERS });
    expect(lines.slice(2).map((line) => line.split(/ +/)[1])).toEqual(['read_bytes', 'rx_frames', 'more,']);
  });

  it.each([
    [row('d', 'x_bytes', 0, 3 << 20), '3 MiB/s'],
    [row('d', 'ops', 0, 0.5), '0.5/s'],
    [row('d', 'ops', 0, 2_500_000), '2.5 M/s'],
    [row('d', 'ops', 0, undefined), '-'],
  ])('has rates for people: %j', (one, text) => {
    expect(rateText(one)).toBe(text);
  });

  it('shows nothing that moves a cursor', () => {
    const [, , line] = viewLines(
      { title: '', rows: [row('\x1b[2J', 'x\n', 1, 1)] },
      { columns: 80, rows: 9, levels: LETTERS },
    );
    expect(line).toContain('\\x1b[2J  x\\n');
  });
});

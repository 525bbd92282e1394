import { describe, expect, it } from 'vitest';
import { compileLogFormat } from '../../../src/cli/logFormat.ts';

const time = new Date(Date.UTC(2026, 10, 9, 4, 5, 6, 78));
const record = { uptimeNs: 12_000_345_678n, time, level: 'WARN', message: 'it {happened}' } as const;

function local(): string {
  const two = (value: number) => String(value).padStart(2, '0');
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${two(time.getHours())}`;
}

describe('--log-format', () => {
  it.each([
    ['{boottime}s: <{thread}> {level}:{location} -- {msg}', '12.000345s: <vmm> WARN:tsvmm -- it {happened}'],
    ['{wallclock} {levelchar}', '2026-11-09T04:05:06.078000Z W'],
    ['{levelchar}{glog} {pid} {tid}]', `W1109 04:05:06.078000 ${process.pid} ${process.pid}]`],
    ['{year}-{month}-{day} {hour}:{minute}:{second}.{micros}{offset}', '2026-11-09 04:05:06.078000+00:00'],
    ['{localyear}-{localmonth}-{localday} {localhour}', local()],
    ['{{{level}}} }}{{', '{WARN} }{'],
    ['plain', 'plain'],
    ['', ''],
  ])('%s', (template, line) => {
    expect(compileLogFormat(template)(record)).toBe(line);
  });

  it('has an offset of local time', () => {
    expect(compileLogFormat('{localoffset}')(record)).toMatch(/^[+-]\d\d:\d\d$/);
  });

  it.each([
    ['{mesg}', '--log-format: unknown token {mesg}; did you mean {msg}?'],
    ['{constructor}', '--log-format: unknown token {constructor}; there are boottime'],
    ['{}', '--log-format: unknown token {}'],
    ['a } b', '--log-format: a "}" stands alone; write "}}" for the character'],
    ['{level', '--log-format: a "{" stands alone'],
  ])('refuses %s', (template, message) => {
    expect(() => compileLogFormat(template)).toThrow(message);
  });
});

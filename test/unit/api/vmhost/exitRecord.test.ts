import fs from 'node:fs';
import { expect, test } from 'vitest';
import { ExitRecord, forgetExit, readExit } from '../../../../src/api/vmhost/exitRecord.ts';
import { temporaryFolder } from './support.ts';

test('how a VM ended is there once it has, and gone before it starts anew', () => {
  const folder = temporaryFolder();
  const record = new ExitRecord(folder);
  expect(readExit(folder)).toBeUndefined();
  record.write({ reason: 'vcpu-error', code: 1, message: 'it broke' });
  expect(readExit(folder)).toEqual({ reason: 'vcpu-error', code: 1, message: 'it broke' });
  expect(fs.readdirSync(folder)).toEqual(['exit.json']);
  const next = new ExitRecord(folder);
  expect(readExit(folder)).toBeUndefined();
  next.write({ reason: 'power-off', code: 0 });
  forgetExit(folder);
  forgetExit(folder);
  expect(readExit(folder)).toBeUndefined();
});

test('its longest text fits into the space that was taken before', () => {
  const folder = temporaryFolder();
  const record = new ExitRecord(folder);
  const [unfinished] = fs.readdirSync(folder);
  const { size } = fs.statSync(`${folder}/${unfinished}`);
  record.write({ reason: 'vcpu-error', code: 1, message: '\u0001'.repeat(10_000), incomplete: true });
  expect(fs.statSync(`${folder}/exit.json`).size).toBeLessThanOrEqual(size);
  expect(readExit(folder)).toMatchObject({ reason: 'vcpu-error', incomplete: true });
});

test.each(['', '{', '{"reason":5}', 'null', '[]'])('%j says nothing', (text) => {
  const folder = temporaryFolder();
  fs.writeFileSync(`${folder}/exit.json`, text);
  expect(readExit(folder)).toBeUndefined();
});

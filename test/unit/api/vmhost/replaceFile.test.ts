/** Files that are there as a whole or not at all. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { isUnfinished, replaceFile } from '../../../../src/api/vmhost/replaceFile.ts';

let folder: string;
beforeEach(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-replace-'));
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

it('has the new content and mode, and nothing is left beside it', () => {
  const file = path.join(folder, 'vm.json');
  fs.writeFileSync(file, 'a much longer content than the new one', { mode: 0o644 });
  replaceFile(file, 'new', 0o600);
  expect(fs.readFileSync(file, 'utf8')).toBe('new');
  expect(fs.statSync(file).mode & 0o777).toBe(0o600);
  expect(fs.readdirSync(folder)).toEqual(['vm.json']);
});

it('is replaced also where a killed process with the same id has left its own', () => {
  const file = path.join(folder, 'vm.json');
  const left = `${file}.${process.pid}.tsvmm-unfinished`;
  fs.writeFileSync(left, 'half');
  expect(isUnfinished(left)).toBe(true);
  replaceFile(file, 'new', 0o600);
  expect(fs.readFileSync(file, 'utf8')).toBe('new');
  expect(fs.readdirSync(folder)).toEqual(['vm.json']);
});

it('stays as it was where it cannot be written', () => {
  const file = path.join(folder, 'vm.json');
  fs.mkdirSync(file);
  expect(() => replaceFile(file, 'new', 0o600)).toThrow();
  expect(fs.readdirSync(folder)).toEqual(['vm.json']);
});

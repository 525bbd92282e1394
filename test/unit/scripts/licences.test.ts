import { expect, test } from 'vitest';
import { checkLicences, notices, packagesAmong } from '../../../scripts/lib/licences.mjs';

test('the packages of a bundle are found among its files', () => {
  const files = [
    'src/index.ts',
    'node_modules/smol-toml/dist/index.js',
    'node_modules/smol-toml/dist/parse.js',
    '../x/node_modules/@scope/name/a.js',
    'node_modules/outer/node_modules/inner/index.js',
  ];
  expect(packagesAmong(files)).toEqual(['@scope/name', 'inner', 'smol-toml']);
});

test('a licence that we may not pass on stops the packaging', () => {
  const component = (name: string, licence: string) => ({ name, version: '1', licence, text: 'words' });
  expect(() => checkLicences([component('a', 'MIT'), component('b', 'Zlib')])).not.toThrow();
  expect(() =>
    checkLicences([component('a', 'MIT'), component('b', 'GPL-3.0-only'), component('c', '')]),
  ).toThrow('a package of ours may not contain b (GPL-3.0-only), c (no licence)');
  expect(notices([component('a', 'MIT')])).toContain('## a 1\n\nSPDX: MIT\n\n```\nwords\n```\n');
});

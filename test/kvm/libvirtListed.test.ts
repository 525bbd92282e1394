/**
 * What virsh lists and shows of domains, with every filter and flag, and how it starts them with each of its options.
 */
import fs from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { documentFile, host, run, SCHEMA } from './virsh.ts';

/** One that runs and starts by itself, one that is paused and transient, and one that does not run. */
async function three() {
  const given = await host();
  const { virsh, folder } = given;
  await virsh('define', '--validate', documentFile(folder, 'runs', 'run=idle'));
  await virsh('autostart', 'runs');
  await virsh('start', 'runs');
  await virsh('create', '--paused', documentFile(folder, 'held', 'run=idle'));
  await virsh('define', documentFile(folder, 'off', 'run=idle'));
  return given;
}

test('list, with every filter', async () => {
  const { virsh } = await three();
  const table: readonly (readonly [words: string, names: string])[] = [
    ['', 'held runs'],
    ['--inactive', 'off'],
    ['--all', 'held off runs'],
    ['--all --persistent', 'off runs'],
    ['--all --transient', 'held'],
    ['--state-running', 'runs'],
    ['--state-paused', 'held'],
    ['--state-shutoff', 'off'],
    ['--state-other', ''],
    ['--state-running --state-paused --persistent', 'runs'],
    ['--all --autostart', 'runs'],
    ['--all --no-autostart', 'held off'],
    ['--all --with-managed-save', ''],
    ['--all --without-managed-save', 'held off runs'],
    ['--all --with-snapshot', ''],
    ['--all --without-snapshot', 'held off runs'],
    ['--all --with-checkpoint', ''],
    ['--all --without-checkpoint', 'held off runs'],
  ];
  for (const [words, names] of table) {
    const listed = await virsh('list', '--name', ...words.split(' ').filter((word) => word !== ''));
    expect(listed.split('\n').sort().join(' '), words).toBe(names);
  }
  const id = await virsh('domid', 'runs');
  const uuid = await virsh('domuuid', 'runs');
  expect(await virsh('domid', 'off')).toBe('-');
  expect(await virsh('domname', uuid)).toBe('runs');
  expect(await virsh('domname', id)).toBe('runs');
  expect(await virsh('domuuid', id)).toBe(uuid);
  expect((await virsh('list', '--uuid')).split('\n')).toContain(uuid);
  expect((await virsh('list', '--id')).split('\n')).toContain(id);
  expect(await virsh('list', '--all', '--managed-save')).toMatch(/ - +off +shut off/);
  await virsh('autostart', '--disable', 'runs');
  expect(await virsh('list', '--name', '--autostart')).toBe('');
});

test('dumpxml, with every flag', async () => {
  const { virsh, folder, refused } = await three();
  for (const flag of ['--inactive', '--security-info', '--update-cpu', '--migratable']) {
    for (const name of ['runs', 'off']) {
      const file = path.join(folder, 'dumped.xml');
      fs.writeFileSync(file, await virsh('dumpxml', flag, name));
      const { code, stderr } = await run('xmllint', ['--noout', '--relaxng', SCHEMA, file]);
      expect(code, `${flag} ${name}: ${stderr}`).toBe(0);
    }
  }
  expect(await virsh('dumpxml', '--inactive', 'runs')).not.toMatch(/<alias|id='/);
  expect(await virsh('dumpxml', 'runs')).toMatch(/^<domain type='kvm' id='\d+'>/);
  expect(await refused('dumpxml', 'none')).toMatch(/failed to get domain/);
});

test('start, with each of its options', async () => {
  const { virsh } = await three();
  for (const option of ['--bypass-cache', '--force-boot', '--reset-nvram', '--paused']) {
    await virsh('start', option, 'off');
    expect(await virsh('domstate', 'off')).toBe(option === '--paused' ? 'paused' : 'running');
    await virsh('destroy', 'off');
  }
});

test('connect and uri', async () => {
  const { uri } = await host();
  const { code, stdout } = await run('virsh', ['-c', 'test:///default', `connect ${uri}; uri`]);
  expect({ code, uri: stdout.trim() }).toMatchObject({ code: 0, uri });
});

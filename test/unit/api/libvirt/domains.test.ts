/** What the server keeps of domains, without any process. */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { Domains } from '../../../../src/api/libvirt/domains.ts';
import { procedures } from '../../../../src/api/libvirt/procedures/index.ts';
import { Remote } from '../../../../src/api/libvirt/signatures/index.ts';
import { element } from '../../../../src/api/libvirt/xml.ts';
import { supervisorPlaces } from '../../../../src/supervisor/places.ts';
import { supervisorWithoutProcesses } from '../../support/supervisorWithoutProcesses.ts';

function fewDomains() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-domains-'));
  onTestFinished(() => fs.rmSync(folder, { recursive: true }));
  const kernel = path.join(folder, 'kernel');
  fs.writeFileSync(kernel, '');
  const places = supervisorPlaces(path.join(folder, 'vms'), {});
  const supervisor = supervisorWithoutProcesses({ places });
  const domains = new Domains(supervisor);
  const document = (uuid = '') =>
    `<domain type='kvm'><name>one</name>${uuid && `<uuid>${uuid}</uuid>`}<memory unit='MiB'>64</memory>
     <os><type arch='x86_64'>hvm</type><kernel>${kernel}</kernel></os></domain>`;
  return { supervisor, domains, document };
}

test('a transient domain goes when it could not start, and has no definition to be changed', async () => {
  const { supervisor, domains, document } = fewDomains();
  await supervisor.open();
  onTestFinished(() => supervisor.close());
  const creating = domains.create(document(), { paused: false, validate: false });
  const vm = domains.byName('one');
  expect(domains.isPersistent(vm)).toBe(false);
  await expect(domains.undefine(vm)).rejects.toThrow('cannot undefine transient domain');
  expect(() => domains.setAutostart(vm, true)).toThrow('cannot set autostart for transient domain');
  await expect(creating).rejects.toThrow();
  expect(domains.find('one')).toBeUndefined();
});

test('a transient domain that is defined is there for good', () => {
  const { supervisor, domains, document } = fewDomains();
  const vm = domains.define(document(), false);
  const { uuid } = domains.domOf(vm);
  const { name, config, policy } = vm.definition;
  supervisor.redefine(name, { config, policy: { ...policy, transient: true } });
  expect(domains.isPersistent(vm)).toBe(false);
  expect(domains.define(document(uuid), false)).toBe(vm);
  expect(domains.isPersistent(vm)).toBe(true);
});

test('a definition that cannot be read is left as it is, and can be undefined', async () => {
  const { supervisor, domains, document } = fewDomains();
  domains.define(document(), false);
  const folder = domains.byName('one').folder;
  fs.writeFileSync(`${folder}/policy.json`, '{"autostart":false,"typo":1}');
  supervisor.list();
  const vm = domains.byName('one');
  const refused = /the definition of domain 'one' is broken: policy.json: unknown field `typo`/;
  expect(() => domains.setAutostart(vm, true)).toThrow(refused);
  expect(() => domains.reconfigure(vm, vm.definition.config)).toThrow(refused);
  expect(fs.readFileSync(`${folder}/policy.json`, 'utf8')).toBe('{"autostart":false,"typo":1}');
  await domains.undefine(vm);
  expect(domains.find('one')).toBeUndefined();
});

test('what could not be read again is not kept, so that every domain has a document', async () => {
  const { domains, document } = fewDomains();
  const vm = domains.define(document(), false);
  const some = element(
    'x',
    {},
    Array.from({ length: 15_000 }, () => element('a')),
  );
  domains.setKept(vm, [element('metadata', {}, [some])]);
  expect(() => domains.setKept(vm, [element('metadata', {}, [some, some])])).toThrow('too many elements');
  expect(() => domains.setKept(vm, [element('a b><c')])).toThrow('domain_metadata');
  const long = element('x', { y: 'z'.repeat(1 << 20) });
  expect(() => domains.setKept(vm, [element('metadata', {}, [long])])).toThrow('more than 1048576 bytes');
  expect(domains.kept(vm)[0]?.children).toHaveLength(1);
  expect(await domains.document(vm, true)).toContain('<a/>');
});

test("what a client calls its element's namespace is a name, and no XML", () => {
  const { domains, document } = fewDomains();
  const dom = domains.domOf(domains.define(document(), false));
  const set = (key: string) => {
    const args = { dom, type: 2, metadata: '<x/>', key, uri: 'urn:x', flags: 0 };
    procedures.get(Remote.domainSetMetadata.number)?.run({ session: { domains }, args, serial: 1 } as never);
  };
  expect(() => set('y/><evil')).toThrow("'y/><evil' is no prefix of a namespace");
  expect(domains.kept(domains.byName('one'))).toEqual([]);
  set('y-1');
  expect(domains.kept(domains.byName('one'))[0]?.children).toMatchObject([{ name: 'y-1:x' }]);
});

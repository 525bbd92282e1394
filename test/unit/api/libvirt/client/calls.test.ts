/** Calls of the client: what each sends, its flags as numbers of libvirt's headers, and what it makes of the answer. */
import { expect, onTestFinished, test } from 'vitest';
import { Remote } from '../../../../../src/api/libvirt/signatures/index.ts';
import { numbersOf, STATES } from '../../../../../src/api/libvirt/signatures/states.ts';
import { XdrReader } from '../../../../../src/api/libvirt/xdr.ts';
import { connect, type LibvirtConnection, type LibvirtDomain } from '../../../../../src/libvirt.ts';
import { fakeDaemon } from './fakeDaemon.ts';

const VM1 = { name: 'vm1', uuid: '00010203-0405-0607-0809-0a0b0c0d0e0f', id: 7 };
const dom = VM1;

type Call = (domain: LibvirtDomain, connection: LibvirtConnection) => Promise<unknown>;

test.each<[name: keyof typeof Remote, call: Call, args: object, answer: unknown, result: unknown]>([
  ['domainGetOsType', (vm) => vm.osType(), { dom }, { type: 'hvm' }, 'hvm'],
  ['domainIsUpdated', (vm) => vm.isUpdated(), { dom }, { updated: 1 }, true],
  [
    'domainGetControlInfo',
    (vm) => vm.controlInfo(),
    { dom, flags: 0 },
    { state: 2, details: 1, stateTime: 5n },
    { state: 'occupied', details: 1, milliseconds: 5 },
  ],
  [
    'domainGetBlockInfo',
    (vm) => vm.blockInfo('vda'),
    { dom, path: 'vda', flags: 0 },
    { allocation: 1n, capacity: 2n, physical: 3n },
    { allocation: 1, capacity: 2, physical: 3 },
  ],
  [
    'domainBlockResize',
    (vm) => vm.blockResize('vda', 512),
    { dom, disk: 'vda', size: 512n, flags: 1 },
    undefined,
    undefined,
  ],
  ['domainHasManagedSaveImage', (vm) => vm.hasManagedSave(), { dom, flags: 0 }, { result: 1 }, true],
  ['domainManagedSaveRemove', (vm) => vm.removeManagedSave(), { dom, flags: 0 }, undefined, undefined],
  ['domainInjectNmi', (vm) => vm.injectNmi(), { dom, flags: 0 }, undefined, undefined],
  [
    'domainUndefineFlags',
    (vm) => vm.undefine({ managedSave: true, keepNvram: true, checkpointsMetadata: true }),
    { dom, flags: 1 | 8 | 16 },
    undefined,
    undefined,
  ],
  ['domainDestroyFlags', (vm) => vm.destroy({ graceful: true }), { dom, flags: 1 }, undefined, undefined],
  [
    'domainShutdownFlags',
    (vm) => vm.shutdown({ mode: ['acpi', 'agent', 'paravirt'] }),
    { dom, flags: 1 | 2 | 16 },
    undefined,
    undefined,
  ],
  [
    'domainGetXmlDesc',
    (vm) => vm.xml({ secure: true, inactive: true, migratable: true }),
    { dom, flags: 1 | 2 | 8 },
    { xml: '<domain/>' },
    '<domain/>',
  ],
  [
    'domainSetVcpusFlags',
    (vm) => vm.setVcpus(4, { config: true, maximum: true }),
    { dom, nvcpus: 4, flags: 2 | 4 },
    undefined,
    undefined,
  ],
  [
    'domainCoreDump',
    (vm) => vm.coreDump('/c', { crash: true, bypassCache: true, memoryOnly: true }),
    { dom, to: '/c', flags: 1 | 4 | 16 },
    undefined,
    undefined,
  ],
  ['nodeGetFreeMemory', (_, connection) => connection.freeMemory(), {}, { freeMem: 4096n }, 4096],
  [
    'domainRestoreFlags',
    (_, connection) => connection.restoreDomain('/s'),
    { from: '/s', dxml: undefined, flags: 0 },
    undefined,
    undefined,
  ],
  [
    'connectListAllDomains',
    (_, connection) =>
      connection.listDomains({ inactive: true, transient: true, shutOff: true, noSnapshot: true }),
    { need_results: 1, flags: 2 | 8 | 64 | 8192 },
    { domains: [], ret: 0 },
    [],
  ],
])('%s', async (name, call, args, answer, result) => {
  const daemon = await fakeDaemon();
  const connection = await connect(daemon.uri);
  onTestFinished(() => connection.close());
  const looked = connection.lookupByName('vm1');
  const lookup = await daemon.next(Remote.domainLookupByName);
  lookup.peer.answer(lookup, Remote.domainLookupByName, { dom: VM1 });
  const done = call(await looked, connection);
  const signature = Remote[name];
  const heard = await daemon.next(signature);
  expect(signature.args.read(new XdrReader(heard.payload))).toEqual(args);
  heard.peer.answer(heard, signature as never, answer as never);
  expect(await done).toEqual(result);
});

test("states have the numbers of libvirt's header", () => {
  expect(numbersOf(STATES, 'running', 'unpaused')).toEqual([1, 5]);
  expect(numbersOf(STATES, 'paused', 'user')).toEqual([3, 1]);
  expect(numbersOf(STATES, 'shut off', 'failed')).toEqual([5, 6]);
  expect(numbersOf(STATES, 'crashed', 'panicked')).toEqual([6, 1]);
});

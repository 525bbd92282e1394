/**
 * A kind of device that no machine has: what a new one takes, for tests that find it everywhere. Its half in the core
 * is test/native/gadget.cc.
 */
import { Descriptor } from '../../../src/boundary/cbor.ts';
import { invalid } from '../../../src/config/rules.ts';
import { pciCommon } from '../../../src/devices/pci.ts';
import type { DeviceRecord } from '../../../src/devices/record.ts';
import { VmmError } from '../../../src/vmm/errors.ts';
import { openEntropySource } from '../../../src/vmm/namedFiles.ts';

const gadgetConfig = {
  type: 'object',
  name: 'GadgetConfig',
  mainKey: 'source',
  fields: {
    ...pciCommon,
    source: { type: 'string', required: true, help: 'Where its bytes come from' },
    level: { type: 'integer', max: 255, default: 3, help: 'How much of a gadget it is' },
  },
} as const;

const gadgetList = { type: 'array', items: gadgetConfig, help: 'Gadgets (virtio-gadget)' } as const;

export const gadget: DeviceRecord<'gadget', 'gadgets', typeof gadgetList, Descriptor> = {
  name: 'gadget',
  field: 'gadgets',
  schema: gadgetList,
  option: { kind: 'list', group: 'further', example: 'source=/dev/zero,level=4' },
  ids: { prefix: '_gadget' },
  paths: { files: ['source'] },
  addition: { called: 'gadget', help: 'a gadget' },
  check({ level, source }, { cpus }) {
    if (level <= 10 * cpus.boot_vcpus) return;
    throw invalid(`The gadget ${source} has level ${level}, which is above 10 for each vCPU`);
  },
  opening: {
    lifetime: 'machine',
    open({ source }, { native, opened }) {
      try {
        const fd = openEntropySource(native, source);
        opened.push(fd);
        return new Descriptor(fd);
      } catch (error) {
        throw new VmmError(`Cannot open the gadget's source ${source}`, { cause: error });
      }
    },
  },
  specification: ({ level }, fd) => ({ kind: 'gadget', fd, level }),
  operations: {
    /** Has it fill buffers with another level. */
    setLevel: {
      run: (core, id, _device, _config, [level = 0]) => core.call(id, 'set-level', { level }),
    },
  },
};

/** vDPA devices of the host. */
import { U16 } from '../config/limits.ts';
import { once } from '../config/schema.ts';
import { pciCommon } from './pci.ts';
import type { DeviceRecord } from './record.ts';

const vdpaFields = once(
  () =>
    ({
      ...pciCommon,
      path: { type: 'string', required: true, help: 'The vhost-vdpa device of the host' },
      num_queues: { type: 'integer', max: U16, default: 1, help: 'Number of queues' },
    }) as const,
);

const vdpaConfig = {
  type: 'object',
  name: 'VdpaConfig',
  get fields() {
    return vdpaFields();
  },
} as const;

const vdpaList = {
  type: 'array',
  items: vdpaConfig,
  unsupported: true,
  help: 'vDPA devices of the host',
} as const;

export const vdpa: DeviceRecord<'vdpa', 'vdpa', typeof vdpaList> = {
  name: 'vdpa',
  field: 'vdpa',
  schema: vdpaList,
  option: { kind: 'list' },
  ids: { prefix: '_vdpa' },
  listing: { called: 'vDPA', backedBy: ({ path }, { text }) => text(path) },
  addition: { called: 'vDPA device', help: 'a vDPA device' },
};

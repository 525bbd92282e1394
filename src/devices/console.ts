/** The console (virtio-console). */
import type { CharBackendSpec } from '../native.ts';
import { characterFields, characterText, validateCharacterDevice } from './characterDevices.ts';
import { pciCommon } from './pci.ts';
import type { DeviceRecord, OpenContext } from './record.ts';

const consoleConfig = {
  type: 'object',
  name: 'ConsoleConfig',
  default: { mode: 'Tty' },
  help: 'Console (virtio-console)',
  fields: { ...pciCommon, ...characterFields },
} as const;

/** The host end, and how large it is in characters. */
export interface ConsoleResource {
  readonly backend: CharBackendSpec;
  readonly columns: number;
  readonly rows: number;
}

export const consoleDevice: DeviceRecord<'console', 'console', typeof consoleConfig, ConsoleResource> = {
  name: 'console',
  field: 'console',
  schema: consoleConfig,
  option: { kind: 'console', group: 'consoles', example: 'tty,log=console.log' },
  ids: { fixed: '__console' },
  listing: { called: 'console', backedBy: characterText },
  paths: { sockets: ['socket'], outputs: ['file', 'log'] },
  isPresent: ({ mode }) => mode !== 'Off',
  check: (device) => validateCharacterDevice('console', device),
  // The descriptors are those of the VM's consoles, which closes them at the machine's end.
  opening: { lifetime: 'machine', open: (_, context) => hostEnd(context) },
  specification: (_, { backend, columns, rows }) => ({ kind: 'console', backend, columns, rows }),
  operations: {
    /** To that many columns and rows. */
    resize: {
      async run(core, id, _device, _config, [columns = 0, rows = 0]) {
        await core.call(id, 'resize', { columns, rows });
      },
    },
  },
};

function hostEnd({ consoleBackend, consoleSize }: OpenContext): ConsoleResource {
  if (consoleBackend === undefined) throw new RangeError("The console's host end has not been opened");
  return { backend: consoleBackend, ...consoleSize() };
}

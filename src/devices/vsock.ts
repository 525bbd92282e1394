/** The socket device (virtio-vsock). */
import { Descriptor } from '../boundary/cbor.ts';
import { U32 } from '../config/limits.ts';
import { invalid } from '../config/rules.ts';
import { type Infer, once } from '../config/schema.ts';
import { VmmError } from '../vmm/errors.ts';
import { listenAt } from '../vmm/listeningSocket.ts';
import { pciCommon } from './pci.ts';
import type { DeviceRecord, OpenContext } from './record.ts';

/** Context ids that no guest can have: hypervisor, local, host (virtio 1.2 §5.10.4) and any. */
const RESERVED_CIDS: readonly number[] = [0, 1, 2, U32];

const vsockFields = once(
  () =>
    ({
      ...pciCommon,
      cid: { type: 'integer', max: U32, required: true, help: "The guest's context id, 3 or more" },
      socket: {
        type: 'string',
        required: true,
        help: 'UNIX socket of the host end',
      },
      any_owner: {
        type: 'boolean',
        default: false,
        help: "Let the guest's connections reach sockets of other users, too",
      },
    }) as const,
);

const vsockConfig = {
  type: 'object',
  name: 'VsockConfig',
  help: 'Sockets between guest and host (virtio-vsock)',
  get fields() {
    return vsockFields();
  },
} as const;

type VsockConfig = Infer<typeof vsockConfig>;

/** What is opened is the listening socket on which clients of the host reach the guest. */
export const vsock: DeviceRecord<'vsock', 'vsock', typeof vsockConfig, Descriptor> = {
  name: 'vsock',
  field: 'vsock',
  schema: vsockConfig,
  option: { kind: 'options', group: 'io', example: 'cid=3,socket=/run/vm.vsock' },
  library: { name: 'vsock' },
  ids: { prefix: '_vsock' },
  paths: { sockets: ['socket'] },
  listing: {
    called: 'socket',
    backedBy: (device, { text }) => `cid ${text(device.cid)}, ${text(device.socket)}`,
  },
  addition: { called: 'vsock device', help: 'a socket device' },
  check({ cid, socket }) {
    if (RESERVED_CIDS.includes(cid)) throw invalid(`The vsock cid ${cid} is reserved`);
    if (socket === '') throw invalid('A vsock needs a socket');
  },
  opening: { lifetime: 'vm', open: listen },
  specification: ({ cid, socket, any_owner }, listener) => ({
    kind: 'vsock',
    listener,
    cid,
    path: socket,
    anyOwner: any_owner,
  }),
};

/**
 * @throws VmmError if something is there already, other than the socket of a process that is gone, or it cannot be made
 */
function listen({ socket }: VsockConfig, { native, sockets }: OpenContext): Descriptor {
  try {
    const owner = listenAt(native, socket);
    sockets.push(owner);
    return new Descriptor(owner.listener);
  } catch (error) {
    throw new VmmError(`Cannot listen on the vsock's socket ${socket}`, { cause: error });
  }
}

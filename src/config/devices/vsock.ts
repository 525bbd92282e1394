/** The socket device (virtio-vsock). */
import { U32 } from '../limits.ts';
import { invalid } from '../rules.ts';
import { type Infer, once } from '../schema.ts';
import { pciCommon } from './pci.ts';

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

export const vsockConfig = {
  type: 'object',
  name: 'VsockConfig',
  help: 'Sockets between guest and host (virtio-vsock)',
  get fields() {
    return vsockFields();
  },
} as const;

export type VsockConfig = Infer<typeof vsockConfig>;

/** @throws ConfigError */
export function validateVsock(vsock: VsockConfig): void {
  if (RESERVED_CIDS.includes(vsock.cid)) throw invalid(`The vsock cid ${vsock.cid} is reserved`);
  if (vsock.socket === '') throw invalid('A vsock needs a socket');
}

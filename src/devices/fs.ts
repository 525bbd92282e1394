/** Shared folders (virtio-fs), which virtiofsd serves. */
import { U16 } from '../config/limits.ts';
import { isShared } from '../config/memory.ts';
import { checkQueueCount, invalid, isPowerOfTwo, MAX_QUEUE_SIZE } from '../config/rules.ts';
import { type Infer, once } from '../config/schema.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import { pciCommon } from './pci.ts';
import type { DeviceRecord } from './record.ts';
import { validateVhostUser } from './vhostUser.ts';

/** What the tag has room for (virtio 1.2 §5.11.4). */
const MAX_TAG_BYTES = 36;

const fsFields = once(
  () =>
    ({
      ...pciCommon,
      tag: { type: 'string', required: true, help: 'What the guest mounts, at most 36 bytes' },
      socket: { type: 'string', required: true, help: 'UNIX socket of virtiofsd' },
      num_queues: { type: 'integer', max: U16, default: 1, help: 'Number of queues, at most max_vcpus' },
      queue_size: {
        type: 'integer',
        max: U16,
        default: 1024,
        help: 'Descriptors in a queue, a power of two',
      },
    }) as const,
);

const fsConfig = {
  type: 'object',
  name: 'FsConfig',
  get fields() {
    return fsFields();
  },
} as const;

type FsConfig = Infer<typeof fsConfig>;

const fsList = {
  type: 'array',
  items: fsConfig,
  unsupported: true,
  help: 'Shared folders (virtio-fs)',
} as const;

export const fs: DeviceRecord<'fs', 'fs', typeof fsList> = {
  name: 'fs',
  field: 'fs',
  schema: fsList,
  option: { kind: 'list' },
  ids: { prefix: '_fs' },
  listing: {
    called: 'file system',
    backedBy: ({ tag, socket }, { text }) => `${text(tag)}, ${text(socket)}`,
  },
  addition: { called: 'fs', help: 'a shared file system (virtio-fs)' },
  check: validateFs,
};

function validateFs(fs: FsConfig, { cpus, memory }: VmConfig): void {
  const name = `The file system ${fs.tag}`;
  if (fs.tag === '' || new TextEncoder().encode(fs.tag).length > MAX_TAG_BYTES) {
    throw invalid(`The file system's tag "${fs.tag}" is not of 1 to ${MAX_TAG_BYTES} bytes`);
  }
  if (fs.num_queues < 1) throw invalid(`${name} needs at least one queue`);
  checkQueueCount(name, 'queues', fs.num_queues, cpus);
  if (!isPowerOfTwo(fs.queue_size) || fs.queue_size > MAX_QUEUE_SIZE) {
    throw invalid(
      `${name} has queue_size ${fs.queue_size}, which is not a power of two up to ${MAX_QUEUE_SIZE}`,
    );
  }
  validateVhostUser(name, fs, isShared(memory));
}

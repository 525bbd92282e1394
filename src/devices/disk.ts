/** Disks (virtio-block). */

import { U16, U32 } from '../config/limits.ts';
import { isShared } from '../config/memory.ts';
import { checkQueueCount, invalid, isPowerOfTwo, MAX_QUEUE_SIZE, unsupported } from '../config/rules.ts';
import { type Infer, once } from '../config/schema.ts';
import { isMultiple } from '../config/uint64.ts';
import { SECTOR_SIZE } from '../config/units.ts';
import type { VmConfig } from '../config/vmConfig.ts';
import type { DeviceSpec, ImageLayer } from '../native.ts';
import { VmmError } from '../vmm/errors.ts';
import { serialOfPath } from './disk/diskSerial.ts';
import { pciCommon } from './pci.ts';
import { rateLimiterField, rateLimiterOf } from './rateLimiter.ts';
import type { DeviceRecord } from './record.ts';
import { validateVhostUser } from './vhostUser.ts';

/** What GET_ID has room for (virtio 1.2 §5.2.6.1). */
const MAX_SERIAL_BYTES = 20;
/** What disks count in (virtio 1.2 §5.2.4). */

const diskFields = once(
  () =>
    ({
      ...pciCommon,
      path: { type: 'string', help: 'Disk image or block device' },
      readonly: { type: 'boolean', default: false, help: 'Refuse writes' },
      direct: { type: 'boolean', default: false, help: 'Bypass the host page cache (O_DIRECT)' },
      num_queues: { type: 'integer', max: U16, default: 1, help: 'Number of queues, at most max_vcpus' },
      queue_size: { type: 'integer', max: U16, default: 128, help: 'Descriptors in a queue, a power of two' },
      vhost_user: { type: 'boolean', default: false, unsupported: true, help: 'Served by vhost-user' },
      vhost_socket: { type: 'string', cli: 'socket', help: 'UNIX socket of a vhost-user back end' },
      rate_limiter_config: rateLimiterField(),
      rate_limit_group: { type: 'string', help: 'Rate limit group to be a member of' },
      queue_affinity: {
        type: 'array',
        items: {
          type: 'object',
          name: 'VirtQueueAffinity',
          fields: {
            queue_index: { type: 'integer', max: U16, required: true, help: 'Number of the queue, from 0' },
            host_cpus: {
              type: 'array',
              items: { type: 'integer', max: U32 },
              required: true,
              help: 'Numbers of host CPUs',
            },
          },
        },
        help: 'Host CPUs of each queue, [queue@[cpus],...]',
      },
      serial: {
        type: 'string',
        help: 'Serial number, at most 20 bytes; one made from the path unless given',
      },
      backing_files: { type: 'boolean', default: false, help: 'Allow an image to name another one below it' },
      sparse: { type: 'boolean', default: true, help: 'Let the guest give space back' },
      image_type: {
        type: 'enum',
        values: {
          Raw: 'raw',
          Qcow2: 'qcow2',
          FixedVhd: 'vhd',
          Vhdx: 'vhdx',
          FlatVmdk: 'vmdk',
          Unknown: 'unknown',
        },
        default: 'Unknown',
        help: 'Format of the image, detected unless given',
      },
      lock_granularity: {
        type: 'enum',
        values: { ByteRange: 'byte-range', Full: 'full' },
        default: 'ByteRange',
        help: 'What part of the image is locked',
      },
      disable_io_uring: {
        type: 'boolean',
        default: false,
        cli: '_disable_io_uring',
        help: 'Do without io_uring',
      },
      disable_aio: { type: 'boolean', default: false, cli: '_disable_aio', help: 'Do without Linux AIO' },
    }) as const,
);

export const diskConfig = {
  type: 'object',
  name: 'DiskConfig',
  mainKey: 'path',
  get fields() {
    return diskFields();
  },
} as const;

export type DiskConfig = Infer<typeof diskConfig>;

/** An image, opened, with what lies below it. */
export interface DiskResource {
  readonly layers: readonly ImageLayer[];
  readonly protectSector0: boolean;
}

const diskList = { type: 'array', items: diskConfig, help: 'Disks (virtio-block)' } as const;

export const disk: DeviceRecord<'disk', 'disks', typeof diskList, DiskResource> = {
  name: 'disk',
  field: 'disks',
  schema: diskList,
  option: {
    kind: 'list',
    group: 'io',
    example: 'path=root.img,image_type=raw path=seed.iso,image_type=raw,readonly=on',
  },
  library: {
    name: 'disks',
    expand: (given: readonly unknown[]) =>
      given.map((one) => (typeof one === 'string' ? { path: one, image_type: 'Raw' } : one)),
  },
  ids: { prefix: '_disk' },
  paths: { files: ['path'] },
  listing: {
    called: 'disk',
    backedBy: ({ path, vhost_socket, readonly }, { text }) =>
      `${text(path ?? vhost_socket)}${readonly ? ', read-only' : ''}`,
  },
  addition: { called: 'disk', help: 'a disk' },
  check: validateDisk,
  checkBootable({ path, image_type: type }) {
    if (path === undefined || path === '') throw invalid('A disk needs a path');
    if (type === 'FlatVmdk') throw unsupported(`Image type FlatVmdk (${path})`);
  },
  opening: {
    lifetime: 'vm',
    open: async (device, context) => (await import('./disk/openDisk.ts')).openDisk(context, device),
  },
  needs: { below4G: true },
  specification,
  operations: {
    /** To that many bytes. The configuration says nothing of sizes and stays as it is. */
    resize: {
      busy: true,
      async run(core, id, _device, _config, [bytes = 0]) {
        if (bytes === 0 || !isMultiple(bytes, SECTOR_SIZE)) {
          throw new VmmError(`The size ${bytes} is not a positive multiple of ${SECTOR_SIZE} bytes`, {
            code: 'ERR_TSVMM_CONFIG',
          });
        }
        if (typeof bytes === 'bigint') {
          throw new VmmError(`The size ${bytes} is more than any image can have`, {
            code: 'ERR_TSVMM_CONFIG',
          });
        }
        await core.call(id, 'resize', { size: bytes });
      },
    },
  },
};

function specification(
  device: DiskConfig,
  { layers, protectSector0 }: DiskResource,
  { rate_limit_groups }: VmConfig,
): DeviceSpec {
  const rateLimiter = rateLimiterOf(device, rate_limit_groups);
  return {
    kind: 'block',
    layers,
    readonly: device.readonly,
    direct: device.direct,
    sparse: device.sparse,
    disableIoUring: device.disable_io_uring,
    disableAio: device.disable_aio,
    numQueues: device.num_queues,
    queueSize: device.queue_size,
    serial: device.serial ?? serialOfPath(device.path ?? ''),
    protectSector0,
    queueCpus: queueCpus(device),
    ...(rateLimiter && { rateLimiter }),
  };
}

/** For each queue the host CPUs that it is to run on, none for any; the last entry of a queue counts. */
function queueCpus(device: DiskConfig): number[][] {
  const queues: number[][] = Array.from({ length: device.num_queues }, () => []);
  for (const { queue_index, host_cpus } of device.queue_affinity ?? []) queues[queue_index] = host_cpus;
  return queues;
}

function validateDisk(disk: DiskConfig, { cpus, memory, rate_limit_groups: groups = [] }: VmConfig): void {
  if (disk.path !== undefined && disk.vhost_socket !== undefined) {
    throw invalid(`The disk ${disk.path} cannot have both a path and a vhost-user socket`);
  }
  const name = `The disk ${disk.path ?? disk.vhost_socket ?? disk.id ?? ''}`.trimEnd();
  if (disk.num_queues < 1) throw invalid(`${name} needs at least one queue`);
  checkQueueCount(name, 'queues', disk.num_queues, cpus);
  if (!isPowerOfTwo(disk.queue_size) || disk.queue_size <= 2 || disk.queue_size > MAX_QUEUE_SIZE) {
    throw invalid(`${name} has queue_size ${disk.queue_size}, which is not a power of two from 4 to 32768`);
  }
  if (disk.serial !== undefined && new TextEncoder().encode(disk.serial).length > MAX_SERIAL_BYTES) {
    throw invalid(`${name} has a serial number of more than ${MAX_SERIAL_BYTES} bytes`);
  }
  if (disk.rate_limiter_config !== undefined && disk.rate_limit_group !== undefined) {
    throw invalid(`${name} cannot have both rate_limiter_config and rate_limit_group`);
  }
  const { rate_limit_group: group } = disk;
  if (group !== undefined && !groups.some(({ id }) => id === group)) {
    throw invalid(`The disk ${disk.path} is in the rate limit group ${group}, which does not exist`);
  }
  for (const { queue_index: queue } of disk.queue_affinity ?? []) {
    if (queue >= disk.num_queues) {
      throw invalid(`${name} has no queue ${queue}, which queue_affinity names`);
    }
  }
  if (!disk.vhost_user) return;
  if (disk.vhost_socket === undefined) throw invalid(`${name} is served by vhost-user, which needs a socket`);
  if (disk.rate_limiter_config !== undefined || disk.rate_limit_group !== undefined) {
    throw invalid(`${name} is served by vhost-user and cannot have a rate limit`);
  }
  validateVhostUser(name, disk, isShared(memory));
}

/** Disks (virtio-block). */
import { U16, U32 } from '../limits.ts';
import { invalid, isPowerOfTwo, MAX_QUEUE_SIZE } from '../rules.ts';
import { type Infer, once } from '../schema.ts';
import { pciCommon } from './pci.ts';
import { rateLimiterField } from './rateLimiter.ts';
import { validateVhostUser } from './vhostUser.ts';

/** What GET_ID has room for (virtio 1.2 §5.2.6.1). */
const MAX_SERIAL_BYTES = 20;

const diskFields = once(
  () =>
    ({
      ...pciCommon,
      path: { type: 'string', help: 'Disk image or block device' },
      readonly: { type: 'boolean', default: false, help: 'Refuse writes' },
      direct: { type: 'boolean', default: false, help: 'Bypass the host page cache (O_DIRECT)' },
      num_queues: { type: 'integer', max: U16, default: 1, help: 'Number of queues, at most one per vCPU' },
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

/** @throws ConfigError */
export function validateDisk(disk: DiskConfig, bootVcpus: number, sharedMemory: boolean): void {
  if (disk.path !== undefined && disk.vhost_socket !== undefined) {
    throw invalid(`The disk ${disk.path} cannot have both a path and a vhost-user socket`);
  }
  const name = `The disk ${disk.path ?? disk.vhost_socket ?? disk.id ?? ''}`.trimEnd();
  if (disk.num_queues < 1) throw invalid(`${name} needs at least one queue`);
  if (disk.num_queues > bootVcpus) {
    throw invalid(`${name} has more queues (${disk.num_queues}) than there are vCPUs (${bootVcpus})`);
  }
  if (!isPowerOfTwo(disk.queue_size) || disk.queue_size <= 2 || disk.queue_size > MAX_QUEUE_SIZE) {
    throw invalid(`${name} has queue_size ${disk.queue_size}, which is not a power of two from 4 to 32768`);
  }
  if (disk.serial !== undefined && new TextEncoder().encode(disk.serial).length > MAX_SERIAL_BYTES) {
    throw invalid(`${name} has a serial number of more than ${MAX_SERIAL_BYTES} bytes`);
  }
  if (disk.rate_limiter_config !== undefined && disk.rate_limit_group !== undefined) {
    throw invalid(`${name} cannot have both rate_limiter_config and rate_limit_group`);
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
  validateVhostUser(name, disk, sharedMemory);
}

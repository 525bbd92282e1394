/** Schemas of live migration. */

import { MAX_FD } from './limits.ts';
import { restoredVfio, zoneUpdate } from './restore.ts';
import { invalid } from './rules.ts';
import type { Infer } from './schema.ts';

const MAX_CONNECTIONS = 128;

const memoryMode = {
  type: 'enum',
  values: { Precopy: 'precopy', Postcopy: 'postcopy' },
  default: 'Precopy',
  help: 'Whether the guest goes on at its destination after its memory is there, or before',
} as const;

const tlsDir = { type: 'string', help: 'Folder of certificates and key, for tcp only' } as const;

export const sendMigrationData = {
  type: 'object',
  name: 'SendMigrationData',
  fields: {
    destination_url: { type: 'string', required: true, help: 'tcp:host:port or unix:/path' },
    local: { type: 'boolean', default: false, help: 'Hand memory over by descriptors, on this host' },
    preserve_source: { type: 'boolean', default: false, help: 'Keep the VM here, paused' },
    downtime_ms: {
      type: 'integer',
      u64: true,
      min: 1,
      default: 300,
      help: 'Longest time without a running guest, in ms',
    },
    timeout_s: {
      type: 'integer',
      u64: true,
      min: 1,
      default: 3600,
      help: 'Longest time for all of it, in seconds',
    },
    timeout_strategy: {
      type: 'enum',
      values: { Cancel: 'cancel', Ignore: 'ignore' },
      default: 'Cancel',
      help: 'What happens after that time',
    },
    connections: { type: 'integer', min: 1, default: 1, help: 'Connections at once, 1 to 128; for tcp only' },
    tls_dir: tlsDir,
    memory_mode: memoryMode,
  },
} as const;

export const receiveMigrationData = {
  type: 'object',
  name: 'ReceiveMigrationData',
  fields: {
    receiver_url: { type: 'string', required: true, help: 'tcp:host:port or unix:/path to listen on' },
    tls_dir: tlsDir,
    memory_mode: memoryMode,
    vfio_fds: { type: 'array', items: restoredVfio, help: 'VFIO devices that come as descriptors' },
    iommufd_fd: { type: 'integer', max: MAX_FD, help: 'Descriptor of /dev/iommu' },
    zone_updates: { type: 'array', items: zoneUpdate, help: 'Host nodes of memory zones' },
  },
} as const;

export type SendMigrationData = Infer<typeof sendMigrationData>;
export type ReceiveMigrationData = Infer<typeof receiveMigrationData>;

/** @throws ConfigError */
export function validateSendMigration(data: SendMigrationData): void {
  const { destination_url: url, connections, tls_dir: tls } = data;
  validateMigrationUrl(url, tls);
  if (data.preserve_source && !data.local) throw invalid('preserve_source needs local');
  if (data.local && !url.startsWith('unix:'))
    throw invalid(`A local migration needs unix:/path, not "${url}"`);
  if (connections > MAX_CONNECTIONS) {
    throw invalid(`connections must be from 1 to ${MAX_CONNECTIONS}, not ${connections}`);
  }
  if (connections > 1 && !url.startsWith('tcp:'))
    throw invalid('More than one connection needs tcp:host:port');
}

/** @throws ConfigError */
export function validateReceiveMigration(data: ReceiveMigrationData): void {
  validateMigrationUrl(data.receiver_url, data.tls_dir);
}

function validateMigrationUrl(url: string, tls: string | undefined): void {
  if (!/^(tcp:.+:\d{1,5}|unix:.+)$/.test(url)) {
    throw invalid(`The migration URL "${url}" is not like tcp:host:port or unix:/path`);
  }
  if (tls !== undefined && !url.startsWith('tcp:')) throw invalid('tls_dir needs tcp:host:port');
}

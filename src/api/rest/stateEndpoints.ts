/** Endpoints of snapshots, restoring and migration. */
import { decode } from '../../config/decode.ts';
import { receiveMigrationData, sendMigrationData } from '../../config/migration.ts';
import { vmCoredumpData, vmSnapshotConfig } from '../../config/requests.ts';
import { restoreConfig } from '../../config/restore.ts';
import { type Endpoint, type Endpoints, order } from './endpoint.ts';
import { noContent } from './httpResponse.ts';
import { RequestError } from './requestError.ts';

export const stateEndpoints: Endpoints = {
  'vm.snapshot': order(vmSnapshotConfig, ({ vmm, json }) =>
    vmm.snapshot(decode(vmSnapshotConfig, json).destination_url),
  ),
  'vm.coredump': order(vmCoredumpData, ({ vmm, json }) =>
    vmm.coredump(decode(vmCoredumpData, json).destination_url),
  ),
  'vm.restore': {
    method: 'PUT',
    body: restoreConfig,
    silent: true,
    handle: ({ vmm, json, descriptors }) => {
      const config = decode(restoreConfig, json);
      let expected = vfioDescriptors(config.vfio_fds);
      for (const { num_fds } of config.net_fds ?? []) expected += num_fds;
      if (descriptors.count !== expected) throw new RequestError('descriptors');
      return vmm.restore(config).then(() => noContent);
    },
  } satisfies Endpoint,
  'vm.send-migration': order(sendMigrationData, ({ vmm, json }) =>
    vmm.sendMigration(decode(sendMigrationData, json)),
  ),
  'vm.receive-migration': {
    method: 'PUT',
    body: receiveMigrationData,
    silent: true,
    handle: ({ vmm, json, descriptors }) => {
      const data = decode(receiveMigrationData, json);
      if (descriptors.count !== vfioDescriptors(data.vfio_fds)) throw new RequestError('descriptors');
      return vmm.receiveMigration(data).then(() => noContent);
    },
  } satisfies Endpoint,
};

/** One of each device, and one of /dev/iommu. */
function vfioDescriptors(devices: readonly unknown[] = []): number {
  return devices.length === 0 ? 0 : devices.length + 1;
}

/** What devices that another process serves by vhost-user have in common. */
import { invalid } from '../config/rules.ts';

/**
 * What every vhost-user back end needs.
 * @throws ConfigError
 */
export function validateVhostUser(
  name: string,
  device: { readonly iommu?: boolean },
  sharedMemory: boolean,
): void {
  if (!sharedMemory)
    throw invalid(`${name} is served by vhost-user, which needs --memory shared=on or hugepages=on`);
  if (device.iommu) throw invalid(`${name} is served by vhost-user and cannot be behind an IOMMU`);
}

/** vhost-net: the host's kernel moves the frames between a tap and the guest. */

import type { NativeAddon } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import { openDevice } from '../../vmm/namedFiles.ts';
import { isLimited, type NetConfig } from '../net.ts';

const VHOST_NET = '/dev/vhost-net';

/**
 * Opens vhost-net for each pair of queues of the tap `name`, unless the configuration or the host is against it.
 * @returns no descriptors if frames are to be moved here
 * @throws VmmError if it was asked for and cannot be had
 */
export function openVhost(
  native: NativeAddon,
  net: NetConfig,
  pairs: number,
  name: string,
  note: (message: string) => void,
): number[] {
  if (net.vhost === false) return [];
  if (isLimited(net)) {
    note(`The tap ${name} is served without vhost-net: the kernel does not keep rate limits`);
    return [];
  }
  const opened: number[] = [];
  try {
    for (let pair = 0; pair < pairs; pair++) opened.push(openDevice(native, VHOST_NET));
  } catch (error) {
    for (const fd of opened) native.closeFile(fd);
    const why = reason(error);
    if (net.vhost)
      throw new VmmError(`The tap ${name} cannot be served by vhost-net: ${why}`, { cause: error });
    note(`The tap ${name} is served without vhost-net: ${why}`);
    return [];
  }
  note(`The tap ${name} is served by vhost-net`);
  return opened;
}

function reason(error: unknown): string {
  const { code } = error as { code?: string };
  if (code === 'ENOENT' || code === 'ENODEV' || code === 'ENXIO') {
    return `this host has no ${VHOST_NET} (kernel module vhost_net)`;
  }
  if (code === 'EACCES' || code === 'EPERM') return `this user may not open ${VHOST_NET}`;
  return `${VHOST_NET} cannot be opened (${code})`;
}

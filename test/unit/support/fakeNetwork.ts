/** The addon's network functions on a host that exists only in a test. */
import type { NativeAddon } from '../../../src/native.ts';

interface FakeInterface {
  up: boolean;
  mtu: number;
  mac: Uint8Array;
  addresses: string[];
  /** That it is a port of. */
  bridge?: string;
  /** False for interfaces that are no taps. */
  tap?: boolean;
}

export interface FakeNetwork {
  readonly interfaces: Map<string, FakeInterface>;
  /** What descriptors belong to. */
  readonly queues: Map<number, { name: string; tap: boolean; vnetHeader: boolean; multiQueue: boolean }>;
  /** What was changed, in order. */
  readonly changes: string[];
  /** The process has CAP_NET_ADMIN. */
  privileged: boolean;
}

type NetworkFunctions = Pick<
  NativeAddon,
  | 'openTap'
  | 'tapQueueInfo'
  | 'interfaceInfo'
  | 'bringInterfaceUp'
  | 'setInterfaceMtu'
  | 'setInterfaceMac'
  | 'setInterfaceAddress'
  | 'putIntoBridge'
>;

export function failure(code: string, message: string): Error {
  return Object.assign(new Error(message), { code });
}

/** @param openFd makes a descriptor that can be closed */
export function fakeNetwork(openFd: () => number): NetworkFunctions & { readonly network: FakeNetwork } {
  const network: FakeNetwork = { interfaces: new Map(), queues: new Map(), changes: [], privileged: true };
  const known = (name: string): FakeInterface => {
    const found = network.interfaces.get(name);
    if (!found) throw failure('ENODEV', 'no such interface');
    return found;
  };
  const change = (text: string): void => {
    if (!network.privileged) throw failure('EPERM', 'not permitted');
    network.changes.push(text);
  };
  return {
    network,
    openTap: (wanted, count) => {
      const name = wanted.replace('%d', String(network.interfaces.size));
      const created = !network.interfaces.has(name);
      if (created) {
        if (!network.privileged) throw failure('EPERM', 'TUNSETIFF: not permitted');
        network.interfaces.set(name, { up: false, mtu: 1500, mac: new Uint8Array(6), addresses: [] });
      }
      if (known(name).tap === false) throw failure('EINVAL', 'TUNSETIFF: invalid argument');
      const fds = Array.from({ length: count }, openFd);
      for (const fd of fds) {
        network.queues.set(fd, { name, tap: true, vnetHeader: true, multiQueue: count > 1 });
      }
      return { fds, name, created };
    },
    tapQueueInfo: (fd) => {
      const queue = network.queues.get(fd);
      if (!queue) throw failure('ENOTTY', 'TUNGETIFF: inappropriate ioctl for device');
      return queue;
    },
    interfaceInfo: (name) => network.interfaces.get(name) ?? null,
    bringInterfaceUp: (name) => {
      if (known(name).up) return;
      change(`${name} up`);
      known(name).up = true;
    },
    setInterfaceMtu: (name, mtu) => {
      if (known(name).mtu === mtu) return;
      change(`${name} mtu ${mtu}`);
      known(name).mtu = mtu;
    },
    setInterfaceMac: (name, mac) => {
      if (known(name).mac.join() === mac.join()) return;
      change(`${name} mac ${mac.join()}`);
      known(name).mac = mac;
    },
    setInterfaceAddress: (name, address, mask) => {
      const text = `${address}/${mask}`;
      if (known(name).addresses.includes(text)) return;
      change(`${name} ${text}`);
      known(name).addresses.push(text);
    },
    putIntoBridge: (name, bridge) => {
      known(bridge);
      if (known(name).bridge === bridge) return;
      change(`${name} in ${bridge}`);
      known(name).bridge = bridge;
    },
  };
}

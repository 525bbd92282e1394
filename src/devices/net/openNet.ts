/** Opening networks: taps by name or by descriptors. Loaded only for VMs that have a network device. */
import { Descriptor } from '../../boundary/cbor.ts';
import type { NativeAddon } from '../../native.ts';
import { VmmError } from '../../vmm/errors.ts';
import { type NetConfig, type NetResource, parseMac, queuePairs } from '../net.ts';
import type { OpenContext } from '../record.ts';
import { parseForward } from './userNetwork.ts';
import { openVhost } from './vhostNet.ts';

/** The kernel puts a number into the name. */
const NEW_TAP = 'vmtap%d';

/** The part of it that a network needs. */
export type NetContext = Pick<OpenContext, 'native' | 'opened' | 'note' | 'warn'>;

/**
 * Opens what a network device is plugged into.
 * @throws VmmError
 */
export async function openNet(context: NetContext, net: NetConfig): Promise<NetResource> {
  return net.user ? openUser(context, net) : openTapped(context, net);
}

async function openUser({ native, opened, warn }: NetContext, net: NetConfig): Promise<NetResource> {
  const { reachesLoopback, startPasst } = await import('./passt.ts');
  const { mac, mtu, forward } = net;
  const mtuIfGiven = mtu === undefined ? {} : { mtu };
  const network = { forwards: (forward ?? []).map(parseForward), ...mtuIfGiven };
  if (reachesLoopback(network)) {
    warn("With forwarded UDP ports the guest reaches this host's loopback address, at that of its gateway");
  }
  const fd = await startPasst(native, network);
  opened.push(fd);
  const stream = { kind: 'stream', fd: new Descriptor(fd) } as const;
  return { network: stream, mac: parseMac(mac as string), ...mtuIfGiven };
}

function openTapped({ native, opened, note }: NetContext, net: NetConfig): NetResource {
  const { fds, name } = net.fds?.length ? adoptTap(native, net.fds) : openTap(native, net, opened);
  const info = name === undefined ? null : native.interfaceInfo(name);
  if (name !== undefined && info !== null) setUp(native, net, name);
  const mtu = net.mtu ?? info?.mtu;
  const vhost = openVhost(native, net, fds.length, name, note);
  opened.push(...vhost);
  return {
    network: { kind: 'tap', fds: fds.map(described), vhost: vhost.map(described) },
    mac: parseMac(net.mac as string),
    ...(mtu !== undefined && { mtu }),
  };
}

function described(fd: number): Descriptor {
  return new Descriptor(fd);
}

interface OpenTap {
  /** One for each pair of queues. */
  readonly fds: readonly number[];
  /** The interface. */
  readonly name: string;
}

/** Descriptors that this process was started with. They stay open: the next machine needs them, too. */
function adoptTap(native: NativeAddon, fds: readonly number[]): OpenTap {
  const names = fds.map((fd) => {
    try {
      const info = native.tapQueueInfo(fd);
      if (!info.tap) throw new VmmError(`Descriptor ${fd} is of ${info.name}, which is a tun and not a tap`);
      if (!info.vnetHeader) {
        throw new VmmError(`Descriptor ${fd} of the tap ${info.name} was opened without IFF_VNET_HDR`);
      }
      return info.name;
    } catch (error) {
      if (error instanceof VmmError) throw error;
      throw new VmmError(`Descriptor ${fd} is not of a tap`, { cause: error });
    }
  });
  const [name] = names as [string];
  const other = names.find((found) => found !== name);
  if (other !== undefined) {
    throw new VmmError(`The descriptors are of two taps, ${name} and ${other}: a device has one`);
  }
  return { fds, name };
}

function openTap(native: NativeAddon, net: NetConfig, opened: number[]): OpenTap {
  const wanted = net.tap ?? NEW_TAP;
  try {
    const { fds, name } = native.openTap(wanted, queuePairs(net));
    opened.push(...fds);
    return { fds, name };
  } catch (error) {
    throw tapFailure(wanted, queuePairs(net), error);
  }
}

function tapFailure(name: string, pairs: number, error: unknown): VmmError {
  const { code, message } = error as { code?: string; message: string };
  const what = `Cannot open the tap ${name === NEW_TAP ? '' : name}`.trimEnd();
  if (message.includes('/dev/net/tun')) {
    if (code === 'ENOENT') return new VmmError(`${what}: this host has no /dev/net/tun (kernel module tun)`);
    return new VmmError(`${what}: this user may not open /dev/net/tun`, { cause: error });
  }
  switch (code) {
    case 'EPERM':
      return new VmmError(
        `${what}: that needs CAP_NET_ADMIN, or a tap that was made for this user (ip tuntap add NAME mode tap user USER)`,
      );
    case 'EBUSY':
      return new VmmError(`${what}: another process uses it`);
    case 'EINVAL':
      return new VmmError(
        pairs > 1
          ? `${what}: there is an interface of that name that is no tap, or one for a single queue (multi_queue)`
          : `${what}: there is an interface of that name that is no tap`,
      );
    default:
      return new VmmError(what, { cause: error });
  }
}

/** Applies what the configuration asks for; a tap that is so already needs no privilege. */
function setUp(native: NativeAddon, net: NetConfig, name: string): void {
  const { bridge, ip, mask, host_mac, mtu } = net;
  const steps: [what: string, change: () => void][] = [];
  if (host_mac !== undefined) {
    const mac = parseMac(host_mac);
    steps.push([`set the MAC address ${host_mac} on`, () => native.setInterfaceMac(name, mac)]);
  }
  if (mtu !== undefined) steps.push([`set MTU ${mtu} on`, () => native.setInterfaceMtu(name, mtu)]);
  if (ip !== undefined && mask !== undefined) {
    steps.push([`set the address ${ip} on`, () => native.setInterfaceAddress(name, ip, mask)]);
  }
  // Behind the MTU: a bridge has that of its smallest port.
  if (bridge !== undefined) {
    steps.push([`put into the bridge ${bridge}`, () => native.putIntoBridge(name, bridge)]);
  }
  steps.push(['switch on', () => native.bringInterfaceUp(name)]);
  for (const [what, change] of steps) {
    try {
      change();
    } catch (error) {
      const needs = (error as { code?: string }).code === 'EPERM';
      const message = `Cannot ${what} the tap ${name}`;
      if (needs) throw new VmmError(`${message}: that needs CAP_NET_ADMIN`);
      throw new VmmError(message, { cause: error });
    }
  }
}

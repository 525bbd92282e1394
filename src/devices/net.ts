/** Network devices (virtio-net). */

import { MAX_FD, U16 } from '../config/limits.ts';
import { isShared } from '../config/memory.ts';
import { checkQueueCount, invalid, isPowerOfTwo, MAX_QUEUE_SIZE } from '../config/rules.ts';
import { type Infer, once } from '../config/schema.ts';
import type { CpusConfig, VmConfig } from '../config/vmConfig.ts';
import type { DeviceSpec, NetworkSpec } from '../native.ts';
import { parseForward } from './net/userNetwork.ts';
import { pciCommon } from './pci.ts';
import { isLimit, rateLimiterField, rateLimiterOf } from './rateLimiter.ts';
import type { DeviceRecord, ListingTexts } from './record.ts';
import { validateVhostUser } from './vhostUser.ts';

/** What IPv6 asks of every link. */
const MIN_MTU = 1280;
const LAST_STANDARD_STREAM = 2;
/** Of the first byte of a MAC address (IEEE 802). */
const MULTICAST = 1;
/** First byte of MAC addresses that are made here: unicast, administered locally. */
const MAC_PREFIX = 0x2e;
/** IFNAMSIZ less the zero byte. */
const MAX_NAME_BYTES = 15;

const macAddress = {
  type: 'string',
  pattern: /^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$/,
  like: '12:34:56:78:90:ab',
} as const;

/** Of either kind; what is an IPv6 address exactly the system decides. */
const ipAddress = {
  type: 'string',
  pattern: /^([0-9]{1,3}(\.[0-9]{1,3}){3}|[0-9a-fA-F.]*(:[0-9a-fA-F.]*){2,7})$/,
  like: '192.0.2.1',
} as const;

const netFields = once(
  () =>
    ({
      ...pciCommon,
      tap: { type: 'string', help: 'Tap interface, made if it is not there; a new one unless given' },
      bridge: { type: 'string', help: 'Bridge of the host, into which the tap is put' },
      ip: { ...ipAddress, help: "Host's address on the tap" },
      mask: { ...ipAddress, like: '255.255.255.0', help: "Network mask of the host's address" },
      mac: { ...macAddress, help: "Guest's MAC address, a random one unless given" },
      host_mac: { ...macAddress, help: "Tap's MAC address" },
      mtu: {
        type: 'integer',
        max: U16,
        help: 'Largest packet in bytes, set on the tap and told to the guest',
      },
      num_queues: { type: 'integer', max: U16, default: 2, help: 'Number of queues, two for each pair' },
      queue_size: { type: 'integer', max: U16, default: 256, help: 'Descriptors in a queue, a power of two' },
      vhost_user: { type: 'boolean', default: false, unsupported: true, help: 'Served by vhost-user' },
      vhost_socket: { type: 'string', cli: 'socket', help: 'UNIX socket of a vhost-user back end' },
      vhost_mode: {
        type: 'enum',
        values: { Client: 'client', Server: 'server' },
        default: 'Client',
        help: 'Whether the back end listens on the socket, or this process',
      },
      fds: {
        type: 'array',
        items: { type: 'integer', max: MAX_FD },
        cli: 'fd',
        help: 'Inherited descriptors of a tap, one for each pair of queues',
      },
      user: {
        type: 'boolean',
        default: false,
        bare: true,
        help: 'User networking, by passt, which needs no privileges',
      },
      forward: {
        type: 'array',
        items: { type: 'string' },
        help: "Host's ports for user networking: [tcp:2222:22]",
      },
      vhost: {
        type: 'boolean',
        help: 'vhost-net for a tap; where there is one unless given',
      },
      rate_limiter_config: rateLimiterField(),
      offload_tso: { type: 'boolean', default: true, help: 'Let TCP segmentation pass through' },
      offload_ufo: { type: 'boolean', default: true, help: 'Let UDP segmentation pass through' },
      offload_csum: { type: 'boolean', default: true, help: 'Let checksums pass through' },
    }) as const,
);

export const netConfig = {
  type: 'object',
  name: 'NetConfig',
  mainKey: 'tap',
  get fields() {
    return netFields();
  },
} as const;

export type NetConfig = Infer<typeof netConfig>;

/** What a device is plugged into, opened. */
export interface NetResource {
  readonly network: NetworkSpec;
  /** Six bytes. */
  readonly mac: Uint8Array;
  /** What the network carries, if known. */
  readonly mtu?: number;
}

const netList = { type: 'array', items: netConfig, help: 'Network devices (virtio-net)' } as const;

export const net: DeviceRecord<'net', 'net', typeof netList, NetResource> = {
  name: 'net',
  field: 'net',
  schema: netList,
  option: { kind: 'list', group: 'io', example: 'user,forward=[tcp:2222:22]' },
  library: {
    name: 'networks',
    expand: (given: readonly unknown[]) => given.map((one) => (one === 'user' ? { user: true } : one)),
  },
  ids: { prefix: '_net' },
  listing: { called: 'network', backedBy },
  addition: {
    called: 'network device',
    help: 'a network device',
    descriptors: { field: 'fds', many: true },
  },
  complete(device) {
    device.mac ??= randomMac();
  },
  check: validateNet,
  opening: {
    lifetime: 'machine',
    last: true,
    open: async (device, context) => (await import('./net/openNet.ts')).openNet(context, device),
  },
  specification,
};

function specification(device: NetConfig, opened: NetResource): DeviceSpec {
  const rateLimiter = rateLimiterOf(device);
  return {
    kind: 'net',
    ...opened,
    queueSize: device.queue_size,
    checksum: device.offload_csum,
    tso: device.offload_tso,
    ufo: device.offload_ufo,
    ...(rateLimiter && { rateLimiter }),
  };
}

function backedBy(
  { tap, bridge, user, vhost_socket, fds }: Readonly<Record<string, unknown>>,
  { text }: ListingTexts,
): string {
  if (user === true) return 'user networking';
  const port = bridge === undefined || bridge === null ? '' : `, in ${text(bridge)}`;
  if (Array.isArray(fds)) return `descriptors ${fds.map(text).join(', ')}${port}`;
  return `${text(tap ?? vhost_socket ?? 'a new tap')}${port}`;
}

/** Of a device that was given none: locally administered. */
export function randomMac(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(6));
  bytes[0] = MAC_PREFIX;
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(':');
}

/** The pairs of queues that `num_queues` makes. */
export function queuePairs(net: NetConfig): number {
  return Math.floor(net.num_queues / 2);
}

/** The six bytes of a MAC address, which is decoded: it looks like one. */
export function parseMac(text: string): Uint8Array {
  return Uint8Array.from(text.split(':'), (byte) => Number.parseInt(byte, 16));
}

function validateNet(net: NetConfig, { cpus, memory }: VmConfig): void {
  const name = `The network device${net.id === undefined ? '' : ` ${net.id}`}`;
  validateQueues(net, name, cpus);
  validateDescriptors(net, name);
  validateAddresses(net, name);
  validateUserNetwork(net, name);
  validateVhost(net, name);
  if (net.vhost_user) validateBackEnd(net, name, isShared(memory));
  validateInterface(name, 'tap', net.tap);
  validateInterface(name, 'bridge', net.bridge);
  if (net.mtu !== undefined && net.mtu < MIN_MTU) {
    throw invalid(`${name} has MTU ${net.mtu}, which is below ${MIN_MTU}`);
  }
  if (!net.offload_csum && (net.offload_tso || net.offload_ufo)) {
    throw invalid(`${name} cannot have offload_tso or offload_ufo without offload_csum`);
  }
}

function validateInterface(name: string, what: string, given: string | undefined): void {
  if (given === undefined) return;
  if (!/^[^\s/]+$/.test(given)) {
    throw invalid(`${name} has "${given}" for a ${what}, which no interface can be called`);
  }
  if (new TextEncoder().encode(given).length > MAX_NAME_BYTES) {
    throw invalid(
      `${name} has the ${what} ${given}: an interface's name has at most ${MAX_NAME_BYTES} bytes`,
    );
  }
}

function validateQueues(net: NetConfig, name: string, cpus: CpusConfig): void {
  if (net.num_queues < 2) throw invalid(`${name} needs at least two queues`);
  checkQueueCount(name, 'pairs of queues', queuePairs(net), cpus);
  if (!isPowerOfTwo(net.queue_size) || net.queue_size < 2 || net.queue_size > MAX_QUEUE_SIZE) {
    throw invalid(`${name} has queue_size ${net.queue_size}, which is not a power of two from 2 to 32768`);
  }
}

function validateDescriptors(net: NetConfig, name: string): void {
  if (net.fds === undefined || net.fds.length === 0) return;
  const bad = net.fds.find((fd) => fd <= LAST_STANDARD_STREAM);
  if (bad !== undefined) throw invalid(`${name} cannot use descriptor ${bad}, a standard stream`);
  if (new Set(net.fds).size !== net.fds.length) throw invalid(`${name} has the same descriptor twice`);
  if (net.num_queues !== 2 * net.fds.length) {
    throw invalid(`${name} has ${net.fds.length} descriptors, so num_queues must be ${2 * net.fds.length}`);
  }
  if (net.tap !== undefined) throw invalid(`${name} cannot have both a tap and descriptors of one`);
}

function validateUserNetwork(net: NetConfig, name: string): void {
  if (!net.user) {
    if (net.forward?.length) throw invalid(`${name} has port forwards, which only user networking knows`);
    return;
  }
  const { tap, bridge, fds, ip, host_mac } = net;
  for (const [field, value] of Object.entries({ tap, bridge, ip, host_mac, fd: fds?.length || undefined })) {
    if (value !== undefined) throw invalid(`${name} has user networking, which has no ${field}`);
  }
  if (net.num_queues !== 2) throw invalid(`${name} has user networking, which has one pair of queues`);
  net.forward?.forEach(parseForward);
}

function validateVhost(net: NetConfig, name: string): void {
  if (!net.vhost) return;
  if (net.user) throw invalid(`${name} has user networking, which the kernel cannot serve (vhost)`);
  if (isLimited(net)) throw invalid(`${name} has a rate limit, which the kernel does not keep (vhost)`);
}

function validateBackEnd(net: NetConfig, name: string, sharedMemory: boolean): void {
  if (net.vhost_socket === undefined) throw invalid(`${name} is served by vhost-user, which needs a socket`);
  if (net.bridge !== undefined) throw invalid(`${name} is served by vhost-user and cannot have a bridge`);
  if (isLimited(net)) throw invalid(`${name} is served by vhost-user and cannot have a rate limit`);
  validateVhostUser(name, net, sharedMemory);
}

/** Whether how much passes has a limit. */
export function isLimited({ rate_limiter_config: limits }: NetConfig): boolean {
  return isLimit(limits?.bandwidth ?? null) || isLimit(limits?.ops ?? null);
}

function validateAddresses(net: NetConfig, name: string): void {
  for (const mac of [net.mac, net.host_mac]) {
    if (mac === undefined) continue;
    const first = parseMac(mac)[0] as number;
    if ((first & MULTICAST) === 0) continue;
    const unicast = (first - MULTICAST).toString(16).padStart(2, '0') + mac.slice(2);
    throw invalid(`${name} has ${mac} for a MAC address, which is one of a group: write ${unicast}`);
  }
  if ((net.ip === undefined) !== (net.mask === undefined)) {
    throw invalid(`${name} needs ip and mask together, or neither`);
  }
  for (const address of [net.ip, net.mask]) {
    if (address !== undefined && addressFamily(address) === undefined) {
      throw invalid(`${name} has "${address}", which is no IP address`);
    }
  }
  if (net.ip !== undefined && net.mask !== undefined && addressFamily(net.ip) !== addressFamily(net.mask)) {
    throw invalid(`${name} has an address and a mask of different kinds`);
  }
}

/** By its form; what is an IPv6 address exactly the system decides. */
function addressFamily(text: string): 4 | 6 | undefined {
  const numbers = text.split('.');
  if (numbers.length === 4 && numbers.every((n) => /^\d{1,3}$/.test(n) && Number(n) < 256)) return 4;
  return /^[0-9a-f:.]+$/i.test(text) && text.split(':').length > 2 ? 6 : undefined;
}

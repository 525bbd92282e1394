/** Disks and interfaces: what they are, and what they count. */
import { readFileSync } from 'node:fs';
import { uint64 } from '../../../config/uint64.ts';
import { KIB } from '../../../config/units.ts';
import type { SupervisedVm } from '../../../supervisor/supervisedVm.ts';
import { unresponsive } from '../askAgent.ts';
import {
  blockFigures,
  type Counters,
  diskNamed,
  disksOf,
  interfaceNamed,
  interfacesOf,
  sizesOf,
  sumOf,
} from '../deviceCounters.ts';
import { invalidArgument, invalidOperation } from '../errors.ts';
import { checkFlags } from '../impact.ts';
import type { Session } from '../session.ts';
import { AddressSource, BLOCK_RESIZE_BYTES } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import type { Dom } from '../types.ts';
import { vmOf } from './lifecycle.ts';
import { type Procedure, procedure } from './procedure.ts';

const IPV4 = 0;
const NOT_COUNTED = -1n;
/** In /proc/net/arp: the entry is complete (ATF_COM). */
const ARP_COMPLETE = 2;

async function countersOf(session: Session, vm: SupervisedVm): Promise<Counters> {
  return (await session.domains.call(vm, 'GET', 'vm.counters')) as Counters;
}

/** All disks together where no name is given. */
async function blockStats(session: Session, given: Dom, name: string): Promise<ReadonlyMap<string, bigint>> {
  const vm = vmOf(session, given);
  if (!vm.alive) throw invalidOperation('domain is not running');
  const disks = disksOf(session.domains.configOf(vm), await countersOf(session, vm));
  return name === '' ? sumOf(disks.map(blockFigures)) : blockFigures(diskNamed(disks, name));
}

async function interfaceStats(session: Session, given: Dom, name: string) {
  const vm = vmOf(session, given);
  if (!vm.alive) throw invalidOperation('domain is not running');
  const interfaces = interfacesOf(session.domains.configOf(vm), await countersOf(session, vm));
  const { counters } = interfaceNamed(interfaces, name);
  const of = (key: string) => (counters[key] === undefined ? NOT_COUNTED : BigInt(counters[key]));
  return {
    ...{
      rx_bytes: of('rx_bytes'),
      rx_packets: of('rx_frames'),
      rx_errs: NOT_COUNTED,
      rx_drop: of('rx_drops'),
    },
    ...{
      tx_bytes: of('tx_bytes'),
      tx_packets: of('tx_frames'),
      tx_errs: NOT_COUNTED,
      tx_drop: of('tx_drops'),
    },
  };
}

/** Addresses by MAC that the host's kernel has seen. */
function arpTable(): ReadonlyMap<string, string> {
  const found = new Map<string, string>();
  for (const line of readFileSync('/proc/net/arp', 'utf8').split('\n').slice(1)) {
    const [address, , flags, mac] = line.split(/ +/);
    if (address && mac && Number(flags) & ARP_COMPLETE) found.set(mac.toLowerCase(), address);
  }
  return found;
}

function addressesOf(session: Session, given: Dom, source: number) {
  const vm = vmOf(session, given);
  if (!vm.alive) throw invalidOperation('domain is not running');
  if (source === AddressSource.agent) {
    throw unresponsive("the guest's agent tells no addresses");
  }
  if (source > AddressSource.arp) throw invalidArgument(`unknown IP address data source ${source}`);
  // No DHCP server is ours: none of its leases is known.
  const known: ReadonlyMap<string, string> = source === AddressSource.arp ? arpTable() : new Map();
  return interfacesOf(session.domains.configOf(vm)).flatMap(({ name, net }) => {
    const addr = known.get(net.mac?.toLowerCase() ?? '');
    return addr ? [{ name, hwaddr: net.mac ?? undefined, addrs: [{ type: IPV4, addr, prefix: 0 }] }] : [];
  });
}

/** @param size in KiB unless `flags` say otherwise */
async function resizeBlock(session: Session, given: Dom, name: string, size: bigint, flags: number) {
  const vm = vmOf(session, given);
  checkFlags(Remote.domainBlockResize.api, flags, BLOCK_RESIZE_BYTES);
  if (!vm.alive) throw invalidOperation('domain is not running');
  const { id } = diskNamed(disksOf(session.domains.configOf(vm)), name);
  const bytes = uint64(flags & BLOCK_RESIZE_BYTES ? size : size * BigInt(KIB));
  if (bytes === undefined) throw invalidArgument(`${size} KiB are more than 64 bits of bytes hold`);
  await session.domains.call(vm, 'PUT', 'vm.resize-disk', { id, desired_size: bytes });
}

export const deviceProcedures: readonly Procedure[] = [
  procedure(
    Remote.domainBlockResize,
    ({ session, args: { dom: given, disk, size, flags } }) => resizeBlock(session, given, disk, size, flags),
    { writes: true },
  ),
  procedure(Remote.domainGetBlockInfo, ({ session, args }) => {
    const vm = vmOf(session, args.dom);
    return sizesOf(vm, diskNamed(disksOf(session.domains.configOf(vm)), args.path).disk);
  }),
  procedure(Remote.domainBlockStats, async ({ session, args }) => {
    const stats = await blockStats(session, args.dom, args.path);
    const of = (name: string) => stats.get(name) ?? NOT_COUNTED;
    return {
      ...{ rd_req: of('rd_operations'), rd_bytes: of('rd_bytes') },
      ...{ wr_req: of('wr_operations'), wr_bytes: of('wr_bytes'), errs: NOT_COUNTED },
    };
  }),
  procedure(Remote.domainBlockStatsFlags, async ({ session, args }) => {
    const stats = await blockStats(session, args.dom, args.path);
    const params = [...stats].map(([field, llong]) => ({ field, value: { llong } }));
    return { params: args.nparams === 0 ? [] : params.slice(0, args.nparams), nparams: params.length };
  }),
  procedure(Remote.domainInterfaceStats, ({ session, args }) =>
    interfaceStats(session, args.dom, args.device),
  ),
  procedure(Remote.domainInterfaceAddresses, ({ session, args }) => ({
    ifaces: addressesOf(session, args.dom, args.source),
  })),
  procedure(Remote.domainGetDiskErrors, ({ session, args }) => {
    if (!vmOf(session, args.dom).alive) throw invalidOperation('domain is not running');
    return { errors: [], nerrors: 0 };
  }),
];

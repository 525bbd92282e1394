/** The counters of a running domain's disks and interfaces, in libvirt's terms. */
import { statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { deviceIds } from '../../platform/deviceIds.ts';
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';
import { targetOf } from './deviceDocument.ts';
import { invalidArgument } from './errors.ts';

/** As `vm.counters` answers: numbers by device and name. */
export type Counters = Readonly<Record<string, Readonly<Record<string, number>>>>;

type Disk = NonNullable<VmConfigInput['disks']>[number];
type Net = NonNullable<VmConfigInput['net']>[number];

export interface NamedDisk {
  readonly disk: Disk;
  /** By which the machine knows it. */
  readonly id: string;
  /** What the guest has it as, such as `vda`. */
  readonly target: string;
  readonly counters: Readonly<Record<string, number>>;
}

/** @param counters of the running machine; none where it is not asked */
export function disksOf(config: VmConfigInput, counters: Counters = {}): NamedDisk[] {
  const { disk: ids = [] } = deviceIds(config);
  return (config.disks ?? []).map((disk, index) => ({
    disk,
    id: ids[index] as string,
    target: targetOf(disk, index),
    counters: counters[ids[index] as string] ?? {},
  }));
}

/** By its target's name, or the path of its source. @throws LibvirtError if there is none */
export function diskNamed(disks: readonly NamedDisk[], name: string): NamedDisk {
  const found = disks.find(({ disk, target }) => target === name || disk.path === name);
  return found ?? fail(`disk '${name}' not found in domain`);
}

export interface NamedInterface {
  readonly net: Net;
  /** The tap, or what stands for an interface that has none. */
  readonly name: string;
  readonly counters: Readonly<Record<string, number>>;
}

export function interfacesOf(config: VmConfigInput, counters: Counters = {}): NamedInterface[] {
  const { net: ids = [] } = deviceIds(config);
  return (config.net ?? []).map((net, index) => ({
    net,
    name: net.tap ?? `net${index}`,
    counters: counters[ids[index] as string] ?? {},
  }));
}

/** By its name or its MAC address. @throws LibvirtError if there is none */
export function interfaceNamed(interfaces: readonly NamedInterface[], name: string): NamedInterface {
  const mac = name.toLowerCase();
  const found = interfaces.find((each) => each.name === name || each.net.mac?.toLowerCase() === mac);
  return found ?? fail(`'${name}' is not a known interface`);
}

export interface DiskSizes {
  readonly allocation: bigint;
  readonly capacity: bigint;
  readonly physical: bigint;
}

const ALLOCATION_UNIT = 512n;

/** Bytes, of its file. @throws Error if that cannot be looked at */
export function sizesOf(vm: SupervisedVm, { path }: Disk): DiskSizes {
  if (!path) throw invalidArgument('the disk has no path');
  const { size, blocks } = statSync(resolve(vm.folder, path));
  return { allocation: BigInt(blocks) * ALLOCATION_UNIT, capacity: BigInt(size), physical: BigInt(size) };
}

const NANOSECONDS_PER_MICROSECOND = 1_000n;

/** By libvirt's names for them; what is not counted is absent. */
export function blockFigures({ counters }: NamedDisk): ReadonlyMap<string, bigint> {
  const figures = new Map<string, bigint>();
  const add = (name: string, key: string, factor = 1n) => {
    const value = counters[key];
    if (value !== undefined) figures.set(name, BigInt(value) * factor);
  };
  add('rd_bytes', 'read_bytes');
  add('rd_operations', 'read_ops');
  add('rd_total_times', 'read_latency_sum', NANOSECONDS_PER_MICROSECOND);
  add('wr_bytes', 'write_bytes');
  add('wr_operations', 'write_ops');
  add('wr_total_times', 'write_latency_sum', NANOSECONDS_PER_MICROSECOND);
  add('flush_operations', 'flush_ops');
  return figures;
}

/** Of all disks together. */
export function sumOf(all: readonly ReadonlyMap<string, bigint>[]): ReadonlyMap<string, bigint> {
  const sum = new Map<string, bigint>();
  for (const figures of all) {
    for (const [name, value] of figures) sum.set(name, (sum.get(name) ?? 0n) + value);
  }
  return sum;
}

function fail(what: string): never {
  throw invalidArgument(what);
}

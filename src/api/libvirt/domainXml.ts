/** Reads a domain's document: the machine that it describes, and what is only kept of it. */
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { parseCpuList } from './cpuSets.ts';
import { readDevices } from './deviceXml.ts';
import { type Actions, readActions } from './domainActions.ts';
import { unsupportedConfiguration } from './errors.ts';
import { bytesOf, readMemorySizes, sizeOf } from './memorySizes.ts';
import { child, type Element, parseXml, textAt } from './xml.ts';
import { wholeNumber, xmlError } from './xmlValues.ts';

export interface DomainDocument {
  readonly name: string;
  readonly uuid: string | undefined;
  readonly config: VmConfigInput;
  /** What follows from what the guest does. */
  readonly actions: Actions;
  /** What has no meaning here and is given back as it came: descriptions, metadata, policies. */
  readonly kept: readonly Element[];
}

export const DOMAIN_DEFINITION = 'domain_definition';

/** Elements below the root that say something of a person's or a program's, not of the machine. */
const KEPT = [
  ...['title', 'description', 'metadata', 'features', 'clock', 'pm'],
  ...['genid', 'sysinfo', 'seclabel'],
];

/** Elements below the root that are part of the machine here. */
const READ = [
  ...['on_poweroff', 'on_reboot', 'on_crash'],
  'name',
  'uuid',
  'memory',
  'maxMemory',
  'currentMemory',
  'memoryBacking',
  'vcpu',
  'cputune',
  'os',
  'cpu',
  'devices',
];
/**
 * Those that ask for something which a machine of ours does not do: without it the domain would not be what was meant.
 */
const REFUSED = ['numatune', 'memtune', 'blkiotune', 'launchSecurity', 'throttlegroups', 'idmap'];
/** Those that say how QEMU and others go about it. */
const TOLERATED = ['iothreads', 'resource', 'bootloader', 'perf', 'keywrap'];

/**
 * @param validate what is not understood is refused, where it is passed over otherwise, as libvirt does
 * @throws LibvirtError naming the element that is wrong, or that a machine of ours cannot have
 */
export function readDomainXml(xml: string, validate = false): DomainDocument {
  const root = parseXml(xml, DOMAIN_DEFINITION);
  if (root.name !== 'domain') throw xmlError(`unexpected root element <${root.name}>, expecting <domain>`);
  const type = root.attributes.type;
  if (type !== 'kvm') throw unsupportedConfiguration(`domain type '${type ?? ''}', only 'kvm' is there`);
  const devices = child(root, 'devices');
  const refused = root.children.find((each) => REFUSED.includes(each.name));
  if (refused) throw unsupportedConfiguration(`<${refused.name}>`);
  if (validate) checkKnown(root);
  const total = sizeOf(child(root, 'memory')) ?? required('memory');
  const memoryDevices = devices?.children.filter(({ name }) => name === 'memory') ?? [];
  const sizes = readMemorySizes(total, child(root, 'maxMemory'), memoryDevices);
  const given = BigInt(sizes.size) + BigInt(sizes.hotplugged_size ?? 0);
  const current = sizeOf(child(root, 'currentMemory')) ?? given;
  const taken = given > current ? given - current : 0n;
  const config: VmConfigInput = {
    payload: readBoot(child(root, 'os')),
    cpus: readVcpus(root),
    memory: { ...sizes, ...readBacking(child(root, 'memoryBacking')) },
    ...readBalloon(
      devices?.children.find(({ name }) => name === 'memballoon'),
      taken,
    ),
    ...readDevices(devices),
  };
  return {
    name: textAt(root, 'name') || required('name'),
    uuid: textAt(root, 'uuid')?.toLowerCase() || undefined,
    kept: root.children.filter((each) => KEPT.includes(each.name)),
    actions: readActions(root, config.pvpanic === true),
    config,
  };
}

function checkKnown(root: Element): void {
  const known = [...READ, ...KEPT, ...TOLERATED];
  const unknown = root.children.find((each) => !known.includes(each.name));
  if (unknown) throw xmlError(`unknown element <${unknown.name}> in line ${unknown.line}`);
}

function readBoot(os: Element | undefined): NonNullable<VmConfigInput['payload']> {
  if (os === undefined) required('os');
  const type = textAt(os, 'type');
  if (type !== 'hvm') throw unsupportedConfiguration(`os type '${type ?? ''}', only 'hvm' is there`);
  const arch = child(os, 'type')?.attributes.arch;
  if (arch !== undefined && arch !== 'x86_64')
    throw unsupportedConfiguration(`architecture '${arch}', only 'x86_64' is there`);
  const kernel = textAt(os, 'kernel');
  const loader = textAt(os, 'loader');
  if (kernel) {
    const initramfs = textAt(os, 'initrd');
    const cmdline = textAt(os, 'cmdline');
    return { kernel, ...(initramfs && { initramfs }), ...(cmdline && { cmdline }) };
  }
  if (loader) return { firmware: loader };
  throw unsupportedConfiguration('a domain boots a <kernel>, or a firmware that is given as <loader>');
}

function readVcpus(root: Element): NonNullable<VmConfigInput['cpus']> {
  const vcpu = child(root, 'vcpu');
  const max = wholeNumber(vcpu?.text || '1', 'vcpu');
  const boot = wholeNumber(vcpu?.attributes.current ?? String(max), 'vcpu current');
  const common = { boot_vcpus: boot, max_vcpus: max, ...readAffinity(root, max) };
  const cells = child(child(root, 'cpu'), 'numa')?.children ?? [];
  // One node is what a machine is without any.
  if (cells.length > 1) throw unsupportedConfiguration('more than one <cell> in <numa>');
  const topology = child(child(root, 'cpu'), 'topology')?.attributes;
  if (topology === undefined) return common;
  const count = (name: string) => wholeNumber(topology[name] ?? '1', `topology ${name}`);
  return {
    ...common,
    topology: {
      packages: count('sockets'),
      dies_per_package: count('dies'),
      cores_per_die: count('cores'),
      threads_per_core: count('threads'),
    },
  };
}

type Affinity = NonNullable<NonNullable<VmConfigInput['cpus']>['affinity']>;

/** Of each vCPU by itself, or of all of them. */
function readAffinity(root: Element, max: number): { affinity?: Affinity } {
  const tune = child(root, 'cputune')?.children ?? [];
  const other = tune.find((each) => each.name !== 'vcpupin');
  if (other) throw unsupportedConfiguration(`<${other.name}> in <cputune>`);
  const affinity = new Map<number, readonly number[]>();
  const all = child(root, 'vcpu')?.attributes.cpuset;
  if (all !== undefined) {
    for (let vcpu = 0; vcpu < max; vcpu++) affinity.set(vcpu, cpuList(all, 'vcpu cpuset'));
  }
  for (const { attributes } of tune) {
    const vcpu = wholeNumber(attributes.vcpu ?? '', 'vcpupin vcpu');
    affinity.set(vcpu, cpuList(attributes.cpuset ?? '', 'vcpupin cpuset'));
  }
  if (affinity.size === 0) return {};
  const pinned = [...affinity].sort(([a], [b]) => a - b);
  return { affinity: pinned.map(([vcpu, host_cpus]) => ({ vcpu, host_cpus })) };
}

function cpuList(text: string, name: string): number[] {
  const cpus = parseCpuList(text);
  if (!cpus?.length) throw xmlError(`<${name}> is '${text}', no list of CPUs`);
  return cpus;
}

function readBacking(backing: Element | undefined): { shared?: boolean; hugepages?: boolean } {
  return {
    ...(child(backing, 'access')?.attributes.mode === 'shared' && { shared: true }),
    ...(child(backing, 'hugepages') && { hugepages: true }),
  };
}

/**
 * Where nothing is said of it there is none, unless it is needed: libvirt's own drivers have one in any case.
 * @param taken bytes that it is to have
 */
function readBalloon(balloon: Element | undefined, taken: bigint): Pick<VmConfigInput, 'balloon'> {
  const { model, autodeflate, freePageReporting } = balloon?.attributes ?? {};
  if (model === 'none' && taken > 0n) {
    throw unsupportedConfiguration("currentMemory below memory, and a <memballoon> of model 'none'");
  }
  if (model === 'none' || (balloon === undefined && taken === 0n)) return {};
  return {
    balloon: {
      size: bytesOf(taken),
      ...(autodeflate === 'on' && { deflate_on_oom: true }),
      ...(freePageReporting === 'on' && { free_page_reporting: true }),
    },
  };
}

function required(name: string): never {
  throw xmlError(`missing element <${name}>`);
}

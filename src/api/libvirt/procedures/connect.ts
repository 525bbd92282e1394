/** The connection itself, and the host. */

import { readFileSync } from 'node:fs';
import { arch, cpus, freemem, hostname, totalmem } from 'node:os';
import { MAX_VCPUS } from '../../../config/bootable.ts';
import { KIB } from '../../../config/units.ts';
import { cpuMap } from '../cpuSets.ts';
import { MACHINE } from '../domainDocument.ts';
import { Code, Domain, LibvirtError, unsupportedConfiguration } from '../errors.ts';
import { ALL, Auth, Feature, OPEN_READ_ONLY } from '../signatures/constants.ts';
import { Remote } from '../signatures/index.ts';
import { element, formatXml } from '../xml.ts';
import { type Procedure, procedure } from './procedure.ts';

/** Of libvirt's features. */
const SUPPORTED: readonly number[] = Object.values(Feature);
/** What tools take us for: libvirt's interface of that version. */
const LIBVIRT_VERSION = 9_000_000n;
const HYPERVISOR_VERSION = 1_000n;
/** /proc/stat counts in 1/100 s. */
const NANOSECONDS_PER_TICK = 10_000_000n;

const SCHEMES = ['tsvmm', 'ch', 'qemu', ''];
const PATHS = ['/system', '/session', '/', ''];

export const connectProcedures: readonly Procedure[] = [
  procedure(Remote.authList, () => ({ types: [Auth.none] }), {
    early: true,
  }),
  procedure(Remote.authPolkit, () => ({ complete: 1 }), { early: true }),
  procedure(
    Remote.connectSupportsFeature,
    ({ session, args: { feature } }) => {
      if (feature === Feature.keepalive) session.startKeepalive();
      return { supported: SUPPORTED.includes(feature) ? 1 : 0 };
    },
    { early: true },
  ),
  procedure(
    Remote.connectOpen,
    ({ session, args: { name = '', flags } }) => {
      if (session.opened)
        throw new LibvirtError(Code.internal, Domain.rpc, 'internal error: connection already open');
      if (!isOurs(name)) {
        throw new LibvirtError(Code.noConnect, Domain.none, `no connection driver available for ${name}`);
      }
      session.opened = true;
      session.readOnly = session.readOnlySocket || (flags & OPEN_READ_ONLY) !== 0;
      session.uri = name === '' ? 'tsvmm:///system' : name;
    },
    { early: true },
  ),
  procedure(Remote.connectClose, ({ session }) => session.end(), { early: true }),
  procedure(Remote.connectGetType, () => ({ type: 'TSVMM' })),
  procedure(Remote.connectGetVersion, () => ({ hv_ver: HYPERVISOR_VERSION })),
  procedure(Remote.connectGetLibVersion, () => ({ lib_ver: LIBVIRT_VERSION })),
  procedure(Remote.connectGetHostname, () => ({ hostname: hostname() })),
  procedure(Remote.connectGetUri, ({ session }) => ({ uri: session.uri })),
  procedure(Remote.connectIsSecure, () => ({ secure: 1 })),
  procedure(Remote.connectRegisterCloseCallback, () => {}),
  procedure(Remote.connectUnregisterCloseCallback, () => {}),
  procedure(Remote.nodeGetInfo, () => ({
    model: [...Buffer.alloc(32, 0).fill('x86_64', 0, 6)],
    memory: BigInt(Math.floor(totalmem() / KIB)),
    cpus: cpus().length,
    mhz: cpus()[0]?.speed ?? 0,
    nodes: 1,
    sockets: 1,
    cores: cpus().length,
    threads: 1,
  })),
  procedure(Remote.connectGetCapabilities, () => ({
    capabilities: capabilities(),
  })),
  procedure(Remote.connectGetDomainCapabilities, () => ({ capabilities: domainCapabilities() })),
  procedure(Remote.connectGetSysinfo, () => ({ sysinfo: sysinfo() })),
  procedure(Remote.connectGetMaxVcpus, () => ({
    max_vcpus: MAX_VCPUS,
  })),
  procedure(Remote.nodeGetCpuMap, ({ args: { need_map } }) => {
    const count = cpus().length;
    return {
      cpumap: need_map ? cpuMap(cpus().map((_, cpu) => cpu)) : new Uint8Array(),
      online: count,
      ret: count,
    };
  }),
  procedure(Remote.nodeGetCpuStats, ({ args: { cpuNum, nparams } }) => counted(cpuStats(cpuNum), nparams)),
  procedure(Remote.nodeGetMemoryStats, ({ args: { nparams } }) => counted(memoryStats(), nparams)),
  procedure(Remote.nodeGetFreeMemory, () => ({ freeMem: BigInt(freemem()) })),
];

/** The list of what has to be asked for twice: first how many, then what. */
function counted<T>(params: T[], asked: number): { params: T[]; nparams: number } {
  return asked === 0 ? { params: [], nparams: params.length } : { params, nparams: params.length };
}

/** The client has taken transport and host off. */
function isOurs(name: string): boolean {
  const found = /^(?:([a-z]+):\/\/)?([^?#]*)/.exec(name);
  return SCHEMES.includes(found?.[1] ?? '') && PATHS.includes(found?.[2] ?? '');
}

function hostUuid(): string | undefined {
  for (const path of ['/sys/class/dmi/id/product_uuid', '/etc/machine-id']) {
    try {
      const hex = readFileSync(path, 'utf8').trim().toLowerCase().replaceAll('-', '');
      if (/^[0-9a-f]{32}$/.test(hex))
        return hex.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5');
    } catch {
      // Not there, or not for us.
    }
  }
  return undefined;
}

function capabilities(): string {
  const uuid = hostUuid();
  return formatXml(
    element('capabilities', {}, [
      element('host', {}, [
        uuid === undefined ? undefined : element('uuid', {}, uuid),
        element('cpu', {}, [element('arch', {}, 'x86_64')]),
      ]),
      element('guest', {}, [
        element('os_type', {}, 'hvm'),
        element('arch', { name: 'x86_64' }, [
          element('wordsize', {}, '64'),
          element('machine', { maxCpus: MAX_VCPUS }, MACHINE),
          element('domain', { type: 'kvm' }),
        ]),
      ]),
    ]),
  );
}

function domainCapabilities(): string {
  return formatXml(
    element('domainCapabilities', {}, [
      element('path', {}, process.execPath),
      element('domain', {}, 'kvm'),
      element('machine', {}, MACHINE),
      element('arch', {}, arch() === 'arm64' ? 'aarch64' : 'x86_64'),
      element('vcpu', { max: MAX_VCPUS }),
      element('os', { supported: 'yes' }),
      element('cpu', {}, [element('mode', { name: 'host-passthrough', supported: 'yes' })]),
      element('devices', {}, [
        element('disk', { supported: 'yes' }, [
          element('enum', { name: 'diskDevice' }, [element('value', {}, 'disk')]),
          element('enum', { name: 'bus' }, [element('value', {}, 'virtio')]),
        ]),
        element('rng', { supported: 'yes' }, [
          element('enum', { name: 'model' }, [element('value', {}, 'virtio')]),
          element('enum', { name: 'backendModel' }, [element('value', {}, 'random')]),
        ]),
      ]),
    ]),
  );
}

/** SMBIOS strings that the host's kernel shows. */
function sysinfo(): string {
  const entry = (name: string, file: string) => {
    try {
      const text = readFileSync(`/sys/class/dmi/id/${file}`, 'utf8').trim();
      return text === '' ? undefined : element('entry', { name }, text);
    } catch {
      return undefined;
    }
  };
  const system = [
    entry('manufacturer', 'sys_vendor'),
    entry('product', 'product_name'),
    entry('version', 'product_version'),
  ];
  if (!system.some((each) => each)) {
    throw unsupportedConfiguration('Host SMBIOS information is not available');
  }
  return formatXml(element('sysinfo', { type: 'smbios' }, [element('system', {}, system)]));
}

function cpuStats(cpu: number): { field: string; value: bigint }[] {
  const name = cpu === ALL ? 'cpu' : `cpu${cpu}`;
  const line = readFileSync('/proc/stat', 'utf8')
    .split('\n')
    .find((each) => each.split(' ')[0] === name);
  if (line === undefined)
    throw new LibvirtError(Code.invalidArgument, Domain.domain, `invalid argument: cpu ${cpu}`);
  const ticks = line.trim().split(/ +/).slice(1).map(BigInt);
  const [user = 0n, nice = 0n, kernel = 0n, idle = 0n, iowait = 0n, irq = 0n, softirq = 0n] = ticks;
  const values = { kernel: kernel + irq + softirq, user: user + nice, idle, iowait };
  return Object.entries(values).map(([field, value]) => ({ field, value: value * NANOSECONDS_PER_TICK }));
}

function memoryStats(): { field: string; value: bigint }[] {
  const text = readFileSync('/proc/meminfo', 'utf8');
  const kib = (name: string) => BigInt(new RegExp(`^${name}: +(\\d+)`, 'm').exec(text)?.[1] ?? 0);
  const values = {
    total: kib('MemTotal'),
    free: kib('MemFree'),
    buffers: kib('Buffers'),
    cached: kib('Cached'),
  };
  return Object.entries(values).map(([field, value]) => ({ field, value }));
}

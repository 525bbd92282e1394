/**
 * A domain document, written: the machine as its configuration has it, with what was kept of the document that defined
 * it.
 */
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { deviceIds } from '../../platform/deviceIds.ts';
import { formatCpuList } from './cpuSets.ts';
import { SERIAL_SOCKET } from './deviceXml.ts';
import { type Actions, actionElements } from './domainActions.ts';
import { currentMemoryKib, maxMemoryKib } from './figures.ts';
import { type Element, element, formatXml } from './xml.ts';

export interface DocumentInput {
  readonly name: string;
  readonly uuid: string;
  /** Of the run; absent for the inactive form, which has no places of the present run either. */
  readonly id?: number;
  readonly config: VmConfigInput;
  readonly actions: Actions;
  readonly kept: readonly Element[];
}

/** What libvirt's own schema wants at its place, in this order. */
const BEFORE_MEMORY = ['genid', 'title', 'description', 'metadata'];
const DEFAULT_CLOCK = element('clock', { offset: 'utc' });
const IMAGE_TYPES: Readonly<Record<string, string>> = {
  Raw: 'raw',
  Qcow2: 'qcow2',
  Vhdx: 'vhdx',
  FixedVhd: 'vpc',
};
export const MACHINE = 'tsvmm';

export function domainDocument(input: DocumentInput): string {
  const { name, uuid, id, config, actions, kept } = input;
  const keptNamed = (names: readonly string[]) =>
    names.flatMap((each) => kept.filter((one) => one.name === each));
  const clock = keptNamed(['clock']);
  const root = element('domain', { type: 'kvm', id }, [
    element('name', {}, name),
    element('uuid', {}, uuid),
    ...keptNamed(BEFORE_MEMORY),
    element('memory', { unit: 'KiB' }, String(maxMemoryKib(config))),
    element('currentMemory', { unit: 'KiB' }, String(currentMemoryKib(config))),
    ...backing(config),
    ...vcpus(config),
    ...affinity(config),
    ...keptNamed(['sysinfo']),
    boot(config),
    ...keptNamed(['features']),
    cpu(config),
    ...(clock.length > 0 ? clock : [DEFAULT_CLOCK]),
    ...actionElements(actions),
    ...keptNamed(['pm']),
    element('devices', {}, devices(config, id !== undefined)),
    ...keptNamed(['seclabel']),
  ]);
  return formatXml(root);
}

function backing({ memory }: VmConfigInput): Element[] {
  const children = [
    memory?.hugepages ? element('hugepages') : undefined,
    memory?.shared ? element('access', { mode: 'shared' }) : undefined,
  ].filter((each) => each !== undefined);
  return children.length > 0 ? [element('memoryBacking', {}, children)] : [];
}

function vcpus({ cpus }: VmConfigInput): Element[] {
  const boot = cpus?.boot_vcpus ?? 1;
  const max = cpus?.max_vcpus ?? boot;
  return [element('vcpu', { placement: 'static', current: boot === max ? undefined : boot }, String(max))];
}

function affinity({ cpus }: VmConfigInput): Element[] {
  const pins = (cpus?.affinity ?? []).map(({ vcpu, host_cpus }) =>
    element('vcpupin', { vcpu, cpuset: formatCpuList([...host_cpus].sort((a, b) => a - b)) }),
  );
  return pins.length > 0 ? [element('cputune', {}, pins)] : [];
}

function boot({ payload }: VmConfigInput): Element {
  const text = (name: string, value: string | null | undefined) =>
    value ? element(name, {}, value) : undefined;
  return element('os', {}, [
    element('type', { arch: 'x86_64', machine: MACHINE }, 'hvm'),
    text('loader', payload?.firmware),
    text('kernel', payload?.kernel),
    text('initrd', payload?.initramfs),
    text('cmdline', payload?.cmdline),
  ]);
}

function cpu({ cpus }: VmConfigInput): Element {
  const topology = cpus?.topology;
  if (!topology) return element('cpu', { mode: 'host-passthrough' });
  const {
    packages: sockets,
    dies_per_package: dies,
    cores_per_die: cores,
    threads_per_core: threads,
  } = topology;
  const attributes = { sockets: sockets ?? 1, dies: dies ?? 1, cores: cores ?? 1, threads: threads ?? 1 };
  return element('cpu', { mode: 'host-passthrough' }, [element('topology', attributes)]);
}

type Disk = NonNullable<VmConfigInput['disks']>[number];
type Net = NonNullable<VmConfigInput['net']>[number];

function devices(config: VmConfigInput, running: boolean): (Element | undefined)[] {
  const alias = (name = '') => (running ? element('alias', { name }) : undefined);
  // By which events call them, too.
  const { disk: disks = [], net: nets = [], vsock: vsocks = [] } = deviceIds(config);
  return [
    ...(config.disks ?? []).map((disk, index) => disk_(disk, index, alias(disks[index]))),
    ...(config.net ?? []).map((net, index) => interface_(net, alias(nets[index]))),
    ...serial(config, alias('serial0')),
    ...virtioConsole(config, alias),
    config.watchdog
      ? element('watchdog', { model: 'i6300esb', action: 'reset' }, [alias('watchdog0')])
      : undefined,
    balloon(config, alias('balloon0')),
    element('rng', { model: 'virtio' }, [
      element('backend', { model: 'random' }, config.rng?.src ?? '/dev/urandom'),
      alias('rng0'),
    ]),
    config.pvpanic ? element('panic', { model: 'pvpanic' }, [alias('panic0')]) : undefined,
    config.vsock
      ? element('vsock', { model: 'virtio' }, [
          element('cid', { auto: 'no', address: config.vsock.cid }),
          alias(vsocks[0]),
        ])
      : undefined,
  ];
}

/** The guest's names in their usual order: vda to vdz, vdaa and so on. */
export function targetName(index: number): string {
  const letter = String.fromCharCode(97 + (index % 26));
  return index < 26 ? `vd${letter}` : `${targetName(Math.floor(index / 26) - 1)}${letter}`;
}

/** @param disk with the `target` that it has in a running machine, or as it is defined */
export function targetOf({ id, target }: Disk & { readonly target?: string }, index: number): string {
  return target ?? (id && isTarget(id) ? id : targetName(index));
}

export function isTarget(id: string): boolean {
  return /^[a-z]{3,8}$/.test(id);
}

function disk_(disk: Disk, index: number, alias: Element | undefined): Element {
  const block = disk.path?.startsWith('/dev/') ?? false;
  return element('disk', { type: block ? 'block' : 'file', device: 'disk' }, [
    element('driver', {
      name: 'qemu',
      type: IMAGE_TYPES[disk.image_type ?? ''] ?? 'raw',
      cache: disk.direct ? 'none' : undefined,
      discard: disk.sparse === false ? 'ignore' : undefined,
      queues: disk.num_queues ?? undefined,
    }),
    element('source', { [block ? 'dev' : 'file']: disk.path ?? '' }),
    element('target', { dev: targetOf(disk, index), bus: 'virtio' }),
    disk.readonly ? element('readonly') : undefined,
    disk.serial ? element('serial', {}, disk.serial) : undefined,
    alias,
  ]);
}

function interface_(net: Net, alias: Element | undefined): Element {
  const queues = (net.num_queues ?? 2) / 2;
  return element('interface', { type: net.user ? 'user' : 'ethernet' }, [
    net.mac ? element('mac', { address: net.mac }) : undefined,
    net.tap ? element('target', { dev: net.tap }) : undefined,
    element('model', { type: 'virtio' }),
    queues > 1 ? element('driver', { queues }) : undefined,
    net.mtu ? element('mtu', { size: net.mtu }) : undefined,
    alias,
  ]);
}

function serial({ serial: device }: VmConfigInput, alias: Element | undefined): Element[] {
  const [type, path] = characterSource(device ?? undefined);
  if (type === undefined) return [];
  const source =
    path === undefined ? undefined : element('source', { mode: type === 'unix' ? 'bind' : undefined, path });
  const model = element('target', { type: 'isa-serial', port: 0 }, [
    element('model', { name: 'isa-serial' }),
  ]);
  return [
    element('serial', { type }, [source, model, alias]),
    element('console', { type }, [source, element('target', { type: 'serial', port: 0 }), alias]),
  ];
}

/** How a serial port meets the host: libvirt's type and the path; nothing where it does not. */
function characterSource(device: VmConfigInput['serial']): [string?, string?] {
  switch (device?.mode) {
    case 'Socket':
      return device.socket?.endsWith(SERIAL_SOCKET) ? ['pty'] : ['unix', device.socket ?? ''];
    case 'File':
      return ['file', device.file ?? ''];
    case 'Pty':
      return device.file ? ['pty', device.file] : ['pty'];
    default:
      return [];
  }
}

function virtioConsole(config: VmConfigInput, alias: (name: string) => Element | undefined): Element[] {
  const { console: device } = config;
  if (device?.mode !== 'File' && device?.mode !== 'Pty') return [];
  const type = device.mode === 'File' ? 'file' : 'pty';
  const port = serial(config, undefined).length > 0 ? 1 : 0;
  const source = device.file ? element('source', { path: device.file }) : undefined;
  return [
    element('console', { type }, [
      source,
      element('target', { type: 'virtio', port }),
      alias(`console${port}`),
    ]),
  ];
}

function balloon({ balloon: given }: VmConfigInput, alias: Element | undefined): Element {
  if (!given) return element('memballoon', { model: 'none' });
  const attributes = {
    model: 'virtio',
    autodeflate: given.deflate_on_oom ? 'on' : undefined,
    freePageReporting: given.free_page_reporting ? 'on' : undefined,
  };
  return element('memballoon', attributes, [alias]);
}

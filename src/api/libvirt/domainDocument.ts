/** Writes a domain's document: its machine by the configuration, and what was kept of the document that defined it. */
import { hotplugBlock, PLAIN_ZONE_ID } from '../../config/memory.ts';
import type { Uint64 } from '../../config/uint64.ts';
import type { VmConfigInput } from '../../config/vmConfig.ts';
import { MEMORY_SLOTS } from '../../platform/acpi/memoryHotplug.ts';
import { deviceIds } from '../../platform/deviceIds.ts';
import { formatCpuList } from './cpuSets.ts';
import { diskElement, interfaceElement, targetOf, vsockElement } from './deviceDocument.ts';
import { SERIAL_SOCKET } from './deviceXml.ts';
import { type Actions, actionElements } from './domainActions.ts';
import { currentMemoryKib, kibOf, maxMemoryKib } from './figures.ts';
import { deviceOf, growthOf } from './memorySizes.ts';
import { type Element, element, formatXml } from './xml.ts';

export interface DocumentInput {
  readonly name: string;
  readonly uuid: string;
  /** Of the run; absent for the inactive form, which has no places of the present run either. */
  readonly id?: number;
  readonly config: VmConfigInput;
  /** Bytes that the guest of a run has by its virtio-mem device. */
  readonly plugged?: number;
  readonly actions: Actions;
  readonly kept: readonly Element[];
}

/** What libvirt's own schema wants at its place, in this order. */
const BEFORE_MEMORY = ['genid', 'title', 'description', 'metadata'];
const DEFAULT_CLOCK = element('clock', { offset: 'utc' });
export const MACHINE = 'tsvmm';

export function domainDocument(input: DocumentInput): string {
  const { name, uuid, id, config, actions, kept, plugged } = input;
  const keptNamed = (names: readonly string[]) =>
    names.flatMap((each) => kept.filter((one) => one.name === each));
  const clock = keptNamed(['clock']);
  const root = element('domain', { type: 'kvm', id }, [
    element('name', {}, name),
    element('uuid', {}, uuid),
    ...keptNamed(BEFORE_MEMORY),
    maxMemory(config),
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
    element('devices', {}, [...devices(config, id !== undefined), memoryDevice(config, plugged)]),
    ...keptNamed(['seclabel']),
  ]);
  return formatXml(root);
}

/** libvirt wants one where there are memory devices. */
function maxMemory(config: VmConfigInput): Element | undefined {
  const growth = growthOf(config);
  if (growth === 0n && deviceOf(config) === undefined) return undefined;
  const slots = growth === 0n ? 1 : MEMORY_SLOTS;
  return element('maxMemory', { slots, unit: 'KiB' }, String(maxMemoryKib(config) + kibOf(growth)));
}

/** @param plugged undefined where nothing runs */
function memoryDevice(config: VmConfigInput, plugged: number | undefined): Element | undefined {
  const device = deviceOf(config);
  if (device === undefined) return undefined;
  const size = (name: string, bytes: Uint64) => element(name, { unit: 'KiB' }, String(kibOf(bytes)));
  return element('memory', { model: device.model }, [
    element('target', {}, [
      size('size', device.size),
      element('node', {}, '0'),
      size('block', hotplugBlock({})),
      size('requested', device.requested),
      plugged === undefined ? undefined : size('current', plugged),
    ]),
    plugged === undefined ? undefined : element('alias', { name: PLAIN_ZONE_ID }),
  ]);
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

function devices(config: VmConfigInput, running: boolean): (Element | undefined)[] {
  const alias = (name = '') => (running ? element('alias', { name }) : undefined);
  // By which events call them, too.
  const { disk: disks = [], net: nets = [], vsock: vsocks = [] } = deviceIds(config);
  return [
    ...(config.disks ?? []).map((disk, index) =>
      diskElement(disk, targetOf(disk, index), alias(disks[index])),
    ),
    ...(config.net ?? []).map((net, index) => interfaceElement(net, alias(nets[index]))),
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
    config.vsock ? vsockElement(config.vsock, alias(vsocks[0])) : undefined,
  ];
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

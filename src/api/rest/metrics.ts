/**
 * What a VMM counts, in the text format of Prometheus (exposition formats, version 0.0.4). Loaded when it is asked for.
 */
import { readdirSync, readFileSync } from 'node:fs';
import { balloon } from '../../devices/balloon.ts';
import { idOf } from '../../devices/registry.ts';
import type { Counters } from '../../vmm/machineFigures.ts';
import { type VcpuCounters, vcpuCounters } from '../../vmm/vcpuCounters.ts';
import type { ApiVmm } from './endpoint.ts';

export const METRICS_TYPE = 'text/plain; version=0.0.4';

type Labels = Readonly<Record<string, string>>;

const STATES = ['None', 'Created', 'Running', 'BreakPoint', 'Paused'] as const;
const US_PER_SECOND = 1e6;
const NS_PER_SECOND = 1e9;

/** Counters that say what went which way: `read_ops`, `tx_bytes`. */
const DIRECTED = /^(read|write|flush|discard|rx|tx|input|output)_(bytes|ops|frames|drops|batches)$/;
/** Of an operation's latency histogram: how many took at most so many us. */
const BUCKET = /^(read|write|flush|discard)_latency_le_(\d+)$/;
/** Said by the histogram, or not to be added up. */
const SUMMARY = /_latency_(min|max|avg|sum)$/;

const DIRECTED_HELP: Readonly<Record<string, readonly [name: string, help: string]>> = {
  bytes: ['tsvmm_device_bytes_total', 'Bytes moved by a device'],
  ops: ['tsvmm_device_operations_total', 'Operations of a device'],
  frames: ['tsvmm_device_frames_total', 'Frames of a network device'],
  drops: ['tsvmm_device_drops_total', 'Frames that a network device dropped'],
  batches: ['tsvmm_device_batches_total', 'Batches in which a network device moved frames'],
};

export function metricsText(vmm: ApiVmm): string {
  const page = new Page();
  const counters = attempt(() => vmm.counters());
  addVm(page, vmm, counters);
  if (counters) addDevices(page, counters);
  for (const statistics of attempt(() => vmm.vcpuStatistics()) ?? []) {
    addVcpu(page, String(statistics.index), vcpuCounters(statistics));
  }
  addProcess(page);
  return page.toString();
}

/** Undefined where the VM is not in the state for it. */
function attempt<T>(ask: () => T): T | undefined {
  try {
    return ask();
  } catch {
    return undefined;
  }
}

function addVm(page: Page, vmm: ApiVmm, counters: Counters | undefined): void {
  const info = attempt(() => vmm.info());
  const state = info?.state ?? 'None';
  for (const one of STATES) {
    const labels = { state: one };
    page.add('tsvmm_vm_state', 'gauge', 'Whether the VM is in that state', labels, one === state ? 1 : 0);
  }
  if (info === undefined) return;
  const { config, memory_actual_size: memory } = info;
  page.add(
    'tsvmm_vm_memory_bytes',
    'gauge',
    'Memory that the guest has, with what was plugged in and without its balloon',
    {},
    memory,
  );
  if (config.balloon) {
    const { actual_bytes: size = 0n } = counters?.[idOf(balloon, config.balloon)] ?? {};
    page.add('tsvmm_vm_balloon_bytes', 'gauge', 'Memory that the guest has put into its balloon', {}, size);
  }
  page.add('tsvmm_vm_vcpus', 'gauge', 'Number of vCPUs', {}, config.cpus.boot_vcpus);
}

function addVcpu(page: Page, vcpu: string, { exits, kvm, runNs, stealNs }: VcpuCounters): void {
  const add = (name: string, help: string, value: number | bigint, labels: Labels = {}) =>
    page.add(`tsvmm_vcpu_${name}`, 'counter', help, { vcpu, ...labels }, value);
  add('run_seconds_total', 'Time that a vCPU was on a processor', Number(runNs) / NS_PER_SECOND);
  add(
    'steal_seconds_total',
    'Time that a vCPU could have run and had no processor',
    Number(stealNs) / NS_PER_SECOND,
  );
  for (const [reason, value] of Object.entries(exits)) {
    add('exits_total', 'Returns of a vCPU to the process, by what for', value, { reason });
  }
  for (const [event, value] of Object.entries(kvm)) {
    add('kvm_events_total', 'What KVM counts of a vCPU, by its own names', value, { event });
  }
}

/** What becomes of a counter, by its name alone: devices of a kind have the same ones, and there may be many. */
type Counted =
  | { readonly to: 'nothing' }
  | { readonly to: 'bucket'; readonly operation: string; readonly labels: string }
  | { readonly to: 'metric'; readonly metric: Metric; readonly labels: string };

function countedAs(name: string): Counted {
  const [, bucketOf, us] = BUCKET.exec(name) ?? [];
  if (bucketOf !== undefined) {
    const labels = `,${labelText({ operation: bucketOf, le: String(Number(us) / US_PER_SECOND) })}`;
    return { to: 'bucket', operation: bucketOf, labels };
  }
  if (SUMMARY.test(name)) return { to: 'nothing' };
  const [, operation, unit] = DIRECTED.exec(name) ?? [];
  if (operation !== undefined && unit !== undefined) {
    const [metric, help] = DIRECTED_HELP[unit] as readonly [string, string];
    return {
      to: 'metric',
      metric: { name: metric, type: 'counter', help },
      labels: `,${labelText({ operation })}`,
    };
  }
  const help = `The counter ${name} of vm.counters`;
  return { to: 'metric', metric: { name: `tsvmm_device_${name}`, type: 'untyped', help }, labels: '' };
}

const LATENCY: Metric = {
  name: 'tsvmm_device_latency_seconds',
  type: 'histogram',
  help: 'How long operations of a device took',
};

function addDevices(page: Page, counters: Counters): void {
  const known = new Map<string, Counted>();
  const counted = (name: string): Counted => {
    const found = known.get(name) ?? countedAs(name);
    known.set(name, found);
    return found;
  };
  for (const [device, values] of Object.entries(counters)) addDevice(page, device, values, counted);
}

function addDevice(
  page: Page,
  id: string,
  values: Readonly<Record<string, bigint>>,
  counted: (name: string) => Counted,
): void {
  const device = labelText({ device: id });
  /** The latest bucket of each operation. */
  const counts = new Map<string, bigint>();
  for (const name of Object.keys(values)) {
    const value = values[name] as bigint;
    const as = counted(name);
    if (as.to === 'metric') page.sample(as.metric, device + as.labels, value);
    if (as.to !== 'bucket') continue;
    page.sample(LATENCY, device + as.labels, value, '_bucket');
    counts.set(as.operation, value);
  }
  for (const [operation, bounded] of counts) {
    const labels = `${device},${labelText({ operation })}`;
    const all = values[`${operation}_ops`] ?? 0n;
    // They are not read at the same instant.
    const count = all > bounded ? all : bounded;
    page.sample(LATENCY, `${labels},le="+Inf"`, count, '_bucket');
    page.sample(LATENCY, labels, Number(values[`${operation}_latency_sum`] ?? 0n) / US_PER_SECOND, '_sum');
    page.sample(LATENCY, labels, count, '_count');
  }
}

function addProcess(page: Page): void {
  const { user, system } = process.cpuUsage();
  const [, threads = '0'] = /^Threads:\s+(\d+)$/m.exec(readFileSync('/proc/self/status', 'utf8')) ?? [];
  const started = Date.now() / 1000 - process.uptime();
  const add = (name: string, type: MetricType, help: string, value: number) =>
    page.add(name, type, help, {}, value);
  add(
    'process_cpu_seconds_total',
    'counter',
    'CPU time of the process, vCPUs included',
    (user + system) / US_PER_SECOND,
  );
  add('process_open_fds', 'gauge', 'Open descriptors', readdirSync('/proc/self/fd').length);
  add('process_threads', 'gauge', 'Threads of the process', Number(threads));
  add(
    'process_resident_memory_bytes',
    'gauge',
    "Resident memory, the guest's included",
    process.memoryUsage.rss(),
  );
  add('process_start_time_seconds', 'gauge', 'When the process began, since the epoch', started);
}

type MetricType = 'counter' | 'gauge' | 'histogram' | 'untyped';

interface Metric {
  readonly name: string;
  readonly type: MetricType;
  readonly help: string;
}

/** Samples by metric: those of one metric stand together, under its type. */
class Page {
  readonly #metrics = new Map<string, string[]>();

  add(name: string, type: MetricType, help: string, labels: Labels, value: number | bigint): void {
    this.sample({ name, type, help }, labelText(labels), value);
  }

  /** @param labels as text */
  sample({ name, type, help }: Metric, labels: string, value: number | bigint, suffix = ''): void {
    let lines = this.#metrics.get(name);
    if (lines === undefined) {
      lines = [`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`];
      this.#metrics.set(name, lines);
    }
    lines.push(labels === '' ? `${name}${suffix} ${value}` : `${name}${suffix}{${labels}} ${value}`);
  }

  toString(): string {
    return [...this.#metrics.values()].map((lines) => `${lines.join('\n')}\n`).join('');
  }
}

function labelText(labels: Labels): string {
  return Object.entries(labels)
    .map(([name, value]) => `${name}="${escapeLabel(value)}"`)
    .join(',');
}

function escapeLabel(value: string): string {
  return value.replace(/\\/g, '\\\\').replace(/"/g, '\\"').replace(/\n/g, '\\n');
}

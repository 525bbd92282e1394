import { describe, expect, it } from 'vitest';
import { Descriptors } from '../../../src/api/rest/descriptors.ts';
import { answerRequest } from '../../../src/api/rest/endpoints.ts';
import { VmmError } from '../../../src/vmm/errors.ts';
import { nodeFiles } from '../support/nodeFiles.ts';
import { fakeVmm } from './support.ts';

const NAME = '[a-zA-Z_:][a-zA-Z0-9_:]*';
const LABELS = `\\{${NAME}="(?:[^"\\\\\\n]|\\\\["\\\\n])*"(?:,${NAME}="(?:[^"\\\\\\n]|\\\\["\\\\n])*")*\\}`;
const SAMPLE = new RegExp(`^(${NAME})(${LABELS})? (-?[0-9.]+(?:e[+-]?[0-9]+)?|\\+Inf|NaN)$`);

async function metrics(vmm = fakeVmm()): Promise<string> {
  const request = { method: 'GET', path: '/metrics', body: new Uint8Array() } as const;
  const answer = await answerRequest(vmm, request, new Descriptors(nodeFiles()));
  expect([answer.status, answer.type]).toEqual([200, 'text/plain; version=0.0.4']);
  return answer.body;
}

/** Reads a page as strictly as the format is written. @returns samples by name and labels */
function read(page: string): Record<string, number> {
  expect(page.endsWith('\n')).toBe(true);
  const samples: Record<string, number> = {};
  const seen = new Set<string>();
  let metric = '';
  let type = '';
  for (const line of page.slice(0, -1).split('\n')) {
    const help = new RegExp(`^# HELP (${NAME}) \\S`).exec(line);
    const typed = new RegExp(`^# TYPE (${NAME}) (counter|gauge|histogram|untyped)$`).exec(line);
    if (help) {
      metric = help[1] as string;
      expect(seen.has(metric), `${metric} is in one piece`).toBe(false);
      seen.add(metric);
      continue;
    }
    if (typed) {
      expect(typed[1]).toBe(metric);
      type = typed[2] as string;
      continue;
    }
    const [, name = '', labels = '', value = ''] = SAMPLE.exec(line) ?? [];
    const suffixes = type === 'histogram' ? ['_bucket', '_sum', '_count'] : [''];
    expect(
      suffixes.map((suffix) => metric + suffix),
      line,
    ).toContain(name);
    if (type === 'counter') expect(name.endsWith('_total'), line).toBe(true);
    expect(samples, line).not.toHaveProperty([name + labels]);
    samples[name + labels] = value === '+Inf' ? Number.POSITIVE_INFINITY : Number(value);
  }
  return samples;
}

describe('metrics', () => {
  it('are those of the process, and of no VM', async () => {
    const vmm = fakeVmm();
    const none = () => {
      throw new VmmError('VM is not created', { kind: 'missing' });
    };
    vmm.info.mockImplementation(none);
    vmm.counters.mockImplementation(none);
    vmm.vcpuStatistics.mockImplementation(none);
    const samples = read(await metrics(vmm));
    expect(samples['tsvmm_vm_state{state="None"}']).toBe(1);
    expect(samples['tsvmm_vm_state{state="Running"}']).toBe(0);
    expect(samples).not.toHaveProperty('tsvmm_vm_vcpus');
    for (const name of ['open_fds', 'threads', 'resident_memory_bytes', 'cpu_seconds_total']) {
      expect(samples[`process_${name}`], name).toBeGreaterThan(0);
    }
    expect(Math.abs((samples.process_start_time_seconds ?? 0) - Date.now() / 1000)).toBeLessThan(3600);
  });

  it('are those of the VM', async () => {
    const samples = read(await metrics());
    expect(samples).toMatchObject({
      'tsvmm_vm_state{state="Created"}': 1,
      tsvmm_vm_memory_bytes: 4096,
      tsvmm_vm_vcpus: 1,
    });
  });

  it('are those of devices, with latencies as histograms', async () => {
    const vmm = fakeVmm();
    vmm.counters.mockReturnValue({
      _disk0: {
        read_bytes: 18_446_744_073_709_551_615n,
        read_ops: 10n,
        read_latency_min: 1n,
        read_latency_max: 9n,
        read_latency_avg: 3n,
        read_latency_sum: 2_500_000n,
        read_latency_le_1: 2n,
        read_latency_le_2: 5n,
        read_latency_le_1048576: 9n,
        write_ops: 0n,
        write_latency_sum: 0n,
        // Counted while the page was made.
        write_latency_le_1: 1n,
      },
      'a"b\\c\n': { rx_frames: 3n, tx_drops: 4n },
      __balloon: { actual_bytes: 7n },
    });
    const page = await metrics(vmm);
    expect(page).toContain(
      'tsvmm_device_bytes_total{device="_disk0",operation="read"} 18446744073709551615\n',
    );
    expect(read(page)).toMatchObject({
      'tsvmm_device_operations_total{device="_disk0",operation="read"}': 10,
      'tsvmm_device_latency_seconds_bucket{device="_disk0",operation="read",le="0.000001"}': 2,
      'tsvmm_device_latency_seconds_bucket{device="_disk0",operation="read",le="0.000002"}': 5,
      'tsvmm_device_latency_seconds_bucket{device="_disk0",operation="read",le="1.048576"}': 9,
      'tsvmm_device_latency_seconds_bucket{device="_disk0",operation="read",le="+Inf"}': 10,
      'tsvmm_device_latency_seconds_sum{device="_disk0",operation="read"}': 2.5,
      'tsvmm_device_latency_seconds_count{device="_disk0",operation="read"}': 10,
      'tsvmm_device_latency_seconds_bucket{device="_disk0",operation="write",le="+Inf"}': 1,
      'tsvmm_device_latency_seconds_count{device="_disk0",operation="write"}': 1,
      'tsvmm_device_frames_total{device="a\\"b\\\\c\\n",operation="rx"}': 3,
      'tsvmm_device_drops_total{device="a\\"b\\\\c\\n",operation="tx"}': 4,
      'tsvmm_device_actual_bytes{device="__balloon"}': 7,
    });
    expect(page).not.toContain('latency_min');
  });

  it('are those of vCPUs, with what the kernel knows of their threads', async () => {
    const vmm = fakeVmm();
    vmm.vcpuStatistics.mockReturnValue([
      { index: 0, thread: process.pid, exits: { port: 7n, mmio: 2n }, hypervisor: { halt_exits: 3n } },
      // A thread that has ended.
      {
        index: 3,
        thread: 2 ** 22 + 1,
        exits: { port: 18_446_744_073_709_551_615n, mmio: 0n },
        hypervisor: {},
      },
    ]);
    const page = await metrics(vmm);
    expect(page).toContain('tsvmm_vcpu_exits_total{vcpu="3",reason="port"} 18446744073709551615\n');
    const samples = read(page);
    expect(samples).toMatchObject({
      'tsvmm_vcpu_exits_total{vcpu="0",reason="port"}': 7,
      'tsvmm_vcpu_exits_total{vcpu="0",reason="mmio"}': 2,
      'tsvmm_vcpu_kvm_events_total{vcpu="0",event="halt_exits"}': 3,
      'tsvmm_vcpu_run_seconds_total{vcpu="3"}': 0,
      'tsvmm_vcpu_steal_seconds_total{vcpu="3"}': 0,
    });
    expect(samples['tsvmm_vcpu_run_seconds_total{vcpu="0"}']).toBeGreaterThan(0);
    expect(samples['tsvmm_vcpu_run_seconds_total{vcpu="0"}']).toBeLessThan(process.uptime() + 1);
    expect(samples['tsvmm_vcpu_steal_seconds_total{vcpu="0"}']).toBeGreaterThanOrEqual(0);
  });

  it.each(['/metrics/', '/metrics?x', '/api/v1//metrics', '/api/v1/metrics'])(
    'are not at %s',
    async (path) => {
      const request = { method: 'GET', path, body: new Uint8Array() } as const;
      expect(await answerRequest(fakeVmm(), request, new Descriptors(nodeFiles()))).toMatchObject({
        status: 404,
      });
    },
  );
});

/** All VMs in Prometheus' text format (exposition format 0.0.4). */
import { processUse } from './stats.ts';
import type { Supervisor } from './supervisor.ts';
import { VM_STATES, type VmDescription } from './vmState.ts';

interface Metric {
  readonly name: string;
  readonly type: 'gauge' | 'counter';
  readonly help: string;
  /** Of one VM; nothing where it does not apply. */
  samples(vm: VmDescription): readonly { readonly labels?: string; readonly value: number }[];
}

const METRICS: readonly Metric[] = [
  {
    name: 'tsvmm_vm_state',
    type: 'gauge',
    help: '1 for the state that the VM is in',
    samples: ({ state }) =>
      VM_STATES.map((each) => ({ labels: `state="${each}"`, value: each === state ? 1 : 0 })),
  },
  {
    name: 'tsvmm_vm_restarts',
    type: 'gauge',
    help: 'Starts in a row because the VM ended by itself',
    samples: ({ restarts }) => [{ value: restarts }],
  },
  {
    name: 'tsvmm_vm_start_time_seconds',
    type: 'gauge',
    help: "When the VM's process started, in seconds since 1970",
    samples: ({ started_at }) => (started_at ? [{ value: Date.parse(started_at) / 1000 }] : []),
  },
  {
    name: 'tsvmm_vm_cpu_seconds_total',
    type: 'counter',
    help: "Processor time of the VM's process",
    samples: ({ pid }) => used(pid).map(({ cpu_seconds }) => ({ value: cpu_seconds })),
  },
  {
    name: 'tsvmm_vm_memory_bytes',
    type: 'gauge',
    help: "Memory of the VM's process in use, guest memory included",
    samples: ({ pid }) => used(pid).map(({ memory_bytes }) => ({ value: memory_bytes })),
  },
];

export function metricsText(supervisor: Supervisor): string {
  const vms = supervisor.list();
  const lines: string[] = [];
  for (const { name, type, help, samples } of METRICS) {
    lines.push(`# HELP ${name} ${help}`, `# TYPE ${name} ${type}`);
    for (const vm of vms) {
      for (const { labels, value } of samples(vm)) {
        // A VM's name has nothing in it that a label would need escaped.
        lines.push(`${name}{vm="${vm.name}"${labels === undefined ? '' : `,${labels}`}} ${value}`);
      }
    }
  }
  return `${lines.join('\n')}\n`;
}

function used(pid: number | undefined) {
  const use = pid === undefined ? undefined : processUse(pid);
  return use ? [use] : [];
}

/** vCPUs and memory that are added, each of which the guest is told of and, as it halts, does not take. */
import { MEMORY_MIB } from '../lib/vmms.mjs';
import { askHalted } from './halted.mjs';
import { RESIZE_MEMORY, RESIZE_VCPUS } from './metrics.mjs';

const MAX_VCPUS = 8;
/** Slots of the ACPI memory controller, and what each holds a multiple of. */
const MEMORY_SLOTS = 8;
const STEP_MIB = 128;

const MEMORY = `size=${MEMORY_MIB}M`;

/**
 * @typedef {object} Kind
 * @property {import('../lib/results.mjs').Metric} metric
 * @property {readonly string[]} args
 * @property {import('./requests.mjs').Request[]} requests
 */

/** @type {readonly Kind[]} */
const KINDS = [
  {
    metric: RESIZE_VCPUS,
    args: ['--memory', MEMORY, '--cpus', `boot=1,max=${MAX_VCPUS}`],
    requests: numbers(MAX_VCPUS - 1).map((more) => resize({ desired_vcpus: 1 + more })),
  },
  {
    metric: RESIZE_MEMORY,
    args: ['--memory', `${MEMORY},hotplug_size=${MEMORY_SLOTS * STEP_MIB}M`],
    requests: numbers(MEMORY_SLOTS).map((more) =>
      resize({ desired_ram: (MEMORY_MIB + more * STEP_MIB) * 2 ** 20 }),
    ),
  },
];

/** @param {number} count */
function numbers(count) {
  return Array.from({ length: count }, (_, index) => index + 1);
}

/** @param {object} body */
function resize(body) {
  return { endpoint: 'vm.resize', body };
}

/**
 * @param {import('./hotplug.mjs').Bench} bench
 * @param {import('./hotplug.mjs').Contender} contender
 * @returns {Promise<() => void>} notes the figures
 */
export async function measureResize(bench, contender) {
  const { results } = bench;
  const { name } = contender;
  /** @type {(() => void)[]} */
  const notes = [];
  for (const { metric, args, requests } of KINDS) {
    const { milliseconds, refusals } = await askHalted(bench, contender, args, () => requests);
    notes.push(() => {
      for (const each of milliseconds) results.add(metric, name, each);
      const [refusal] = refusals;
      if (refusal !== undefined) results.skipOnce(`${metric.title}, ${name}`, refusal);
    });
  }
  return () => {
    for (const each of notes) each();
  };
}

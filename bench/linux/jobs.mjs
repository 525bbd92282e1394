/** What the stock guest of `bench linux` does with its disk (load.c). */

/**
 * @typedef {object} Job
 * @property {string} name
 * @property {string} title
 * @property {'read' | 'write'} direction
 * @property {'random' | 'sequential'} order
 * @property {number} bytes of each request
 * @property {number} depth
 * @property {number} count requests
 */

const KIB = 1024;

/**
 * @param {string} name
 * @param {string} title
 * @param {Job['direction']} direction
 * @param {Job['order']} order
 * @param {Pick<Job, 'bytes' | 'depth' | 'count'>} amount
 * @returns {Job}
 */
function job(name, title, direction, order, amount) {
  return { name, title, direction, order, ...amount };
}

const LARGE = { bytes: 128 * KIB, depth: 8, count: 512 };
const DEEP = { bytes: 4 * KIB, depth: 32, count: 4000 };

/** The first one gives the whole disk the content that reads are checked against. @type {readonly Job[]} */
export const JOBS = [
  job('seqwrite-128k-d8', '128 KiB sequential writes, depth 8', 'write', 'sequential', LARGE),
  job('randread-4k-d32', '4 KiB random reads, depth 32', 'read', 'random', DEEP),
  job('randwrite-4k-d32', '4 KiB random writes, depth 32', 'write', 'random', DEEP),
  job('seqread-4k-d32', '4 KiB sequential reads, depth 32', 'read', 'sequential', DEEP),
  job('randread-4k-d1', '4 KiB random reads, depth 1', 'read', 'random', { ...DEEP, depth: 1, count: 1000 }),
  job('seqread-128k-d8', '128 KiB sequential reads, depth 8', 'read', 'sequential', LARGE),
];

/** The lines that the guest's load.c reads. */
export function jobLines() {
  return JOBS.map(
    ({ name, direction, order, bytes, depth, count }) =>
      `${name} ${direction} ${order} ${bytes} ${depth} ${count}\n`,
  ).join('');
}

/**
 * Thousands of instructions a request, by job, from what the guest printed.
 *
 * @param {string} printed
 * @returns {Map<string, number>}
 */
export function costsIn(printed) {
  /** @type {Map<string, number>} */
  const costs = new Map();
  for (const [, name, time] of printed.matchAll(/^bench-result (\S+) (\d+)\r?$/gm)) {
    const found = JOBS.find((one) => one.name === name);
    if (found) costs.set(found.name, Number(time) / found.count / 1000);
  }
  return costs;
}

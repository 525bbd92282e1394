/** What the stock guest of `bench linux` does with its disk: jobs of fio. */

/**
 * @typedef {object} Job
 * @property {string} name
 * @property {string} title
 * @property {string} rw fio's word for it
 * @property {string} bs
 * @property {number} depth
 * @property {number} count requests that the first of three turns makes
 */

/** @type {readonly Job[]} */
export const JOBS = [
  {
    name: 'randread-4k-d32',
    title: '4 KiB random reads, depth 32',
    rw: 'randread',
    bs: '4k',
    depth: 32,
    count: 500,
  },
  {
    name: 'randwrite-4k-d32',
    title: '4 KiB random writes, depth 32',
    rw: 'randwrite',
    bs: '4k',
    depth: 32,
    count: 500,
  },
  {
    name: 'randread-4k-d1',
    title: '4 KiB random reads, depth 1',
    rw: 'randread',
    bs: '4k',
    depth: 1,
    count: 200,
  },
  {
    name: 'seqread-128k-d8',
    title: '128 KiB sequential reads, depth 8',
    rw: 'read',
    bs: '128k',
    depth: 8,
    count: 100,
  },
];

/** How many times its count a job's second and third turn make. */
export const TURNS = /** @type {const} */ ([1, 2, 6]);

/** The lines that the guest's init reads. */
export function jobLines() {
  return JOBS.map(({ name, rw, bs, depth, count }) => `${name} ${rw} ${bs} ${depth} ${count}\n`).join('');
}

/**
 * What the guest prints when a turn is over.
 *
 * @param {Job} job
 * @param {number} turn
 */
export function markOf(job, turn) {
  return `bench-mark ${job.name} ${turn}`;
}

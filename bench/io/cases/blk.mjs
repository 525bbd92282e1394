/** What `bench blk` measures; guest options are those of bench/guest/block.c. */

/** @typedef {import('./cases.mjs').Case} Case */

const KIB = 1024;
const PAGE_CACHE = /** @type {const} */ ({ format: 'raw', direct: false });
const DIRECT = /** @type {const} */ ({ format: 'raw', direct: true });
const QCOW2 = /** @type {const} */ ({ format: 'qcow2', direct: false });

/**
 * @param {string} name
 * @param {string} title
 * @param {import('./cases.mjs').Disk} disk
 * @param {Record<string, string | number>} guest
 * @returns {Case}
 */
function blk(name, title, disk, guest) {
  const rate = Number(guest.bs ?? 0) > 4 * KIB ? 'bytes' : 'operations';
  return { benchmark: 'blk', name, title, rate, disk, guest: { run: 'blk', ...guest } };
}

const WRITE = { write: 100 };
const SEQUENTIAL = { order: 'sequential' };
const LARGE = { bs: 128 * KIB, depth: 8 };

/** @type {readonly Case[]} */
export const BLK_CASES = [
  blk('randread-4k-d32', '4 KiB random reads, depth 32, page cache', PAGE_CACHE, { depth: 32 }),
  blk('randwrite-4k-d32', '4 KiB random writes, depth 32, page cache', PAGE_CACHE, { depth: 32, ...WRITE }),
  blk('randrw-4k-d32', '4 KiB random, 70 % reads, depth 32, page cache', PAGE_CACHE, {
    depth: 32,
    write: 30,
  }),
  blk('randread-4k-d1', '4 KiB random reads, depth 1, page cache', PAGE_CACHE, { depth: 1 }),
  blk('randwrite-4k-d1', '4 KiB random writes, depth 1, page cache', PAGE_CACHE, { depth: 1, ...WRITE }),
  blk('randread-4k-d32-irq', '4 KiB random reads, depth 32, page cache, guest woken by MSI-X', PAGE_CACHE, {
    depth: 32,
    wait: 'irq',
  }),
  blk('seqread-4k-d32', '4 KiB sequential reads, depth 32, page cache', PAGE_CACHE, {
    depth: 32,
    ...SEQUENTIAL,
  }),
  blk('seqwrite-4k-d32', '4 KiB sequential writes, depth 32, page cache', PAGE_CACHE, {
    depth: 32,
    ...WRITE,
    ...SEQUENTIAL,
  }),
  blk('randread-128k-d8', '128 KiB random reads, depth 8, page cache', PAGE_CACHE, LARGE),
  blk('randwrite-128k-d8', '128 KiB random writes, depth 8, page cache', PAGE_CACHE, { ...LARGE, ...WRITE }),
  blk('seqread-128k-d8', '128 KiB sequential reads, depth 8, page cache', PAGE_CACHE, {
    ...LARGE,
    ...SEQUENTIAL,
  }),
  blk('direct-randread-4k-d32', '4 KiB random reads, depth 32, O_DIRECT', DIRECT, { depth: 32 }),
  blk('direct-randwrite-4k-d32', '4 KiB random writes, depth 32, O_DIRECT', DIRECT, { depth: 32, ...WRITE }),
  blk('direct-randread-4k-d1', '4 KiB random reads, depth 1, O_DIRECT', DIRECT, { depth: 1 }),
  blk('direct-seqread-4k-d32', '4 KiB sequential reads, depth 32, O_DIRECT', DIRECT, {
    depth: 32,
    ...SEQUENTIAL,
  }),
  blk('direct-seqread-128k-d8', '128 KiB sequential reads, depth 8, O_DIRECT', DIRECT, {
    ...LARGE,
    ...SEQUENTIAL,
  }),
  blk('qcow2-randread-4k-d32', '4 KiB random reads, depth 32, qcow2, allocated', QCOW2, { depth: 32 }),
  blk('qcow2-randwrite-4k-d32', '4 KiB random writes, depth 32, qcow2, allocated', QCOW2, {
    depth: 32,
    verify: 'all',
    ...WRITE,
  }),
  blk('qcow2-seqread-128k-d8', '128 KiB sequential reads, depth 8, qcow2', QCOW2, {
    ...LARGE,
    ...SEQUENTIAL,
  }),
];

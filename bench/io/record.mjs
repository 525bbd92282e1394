/** What bench/host tells of one run, made sense of. */

/**
 * @typedef {object} Sample
 * @property {number} rate operations or bytes a second
 * @property {number} operations
 * @property {number} cpu nanoseconds of host CPU an operation, the whole process
 * @property {number} cpuOutside the same without the vCPU threads
 * @property {number} idle share of a CPU that threads other than vCPUs use while the guest leaves the device alone
 * @property {number} kicks doorbells an operation, as the guest counts them
 * @property {Record<string, number>} quantiles of the latency in nanoseconds, by parts in a million
 */

/**
 * @typedef {object} RunRecord
 * @property {string[]} guestLines
 * @property {Map<string, string>} values by the line's first word; of several, the last
 * @property {Map<string, number>} counters
 * @property {{name: string, rxPackets: number, rxDropped: number, txPackets: number, txDropped: number}[]} interfaces
 */

/**
 * @param {string} text
 * @returns {RunRecord}
 */
export function parseRecord(text) {
  /** @type {RunRecord} */
  const record = { guestLines: [], values: new Map(), counters: new Map(), interfaces: [] };
  for (const line of text.split('\n')) {
    const [, word = '', rest = ''] = /^(\S+) ?(.*)$/.exec(line) ?? [];
    if (word === 'guest') {
      record.guestLines.push(rest);
    } else if (word === 'counter') {
      const [name = '', count] = rest.split(' ');
      record.counters.set(name, Number(count));
    } else if (word === 'net') {
      const [name = '', ...counts] = rest.split(' ');
      const [rxPackets = 0, rxDropped = 0, txPackets = 0, txDropped = 0] = counts.map(Number);
      record.interfaces.push({ name, rxPackets, rxDropped, txPackets, txDropped });
    } else if (word !== '') {
      record.values.set(word, rest);
    }
  }
  return record;
}

/**
 * What went wrong within the guest or with the VMM; undefined if nothing did.
 *
 * @param {RunRecord} record
 * @returns {string | undefined}
 */
export function failureOf(record) {
  const complaints = record.guestLines.filter((line) => line.startsWith('not ok'));
  if (complaints.length > 0) return complaints.join('; ');
  if (!record.guestLines.some((line) => line.startsWith('result '))) {
    const how = record.values.has('killed') ? `killed ${record.values.get('killed')}` : 'ended';
    return `no result (${how}, wait status ${record.values.get('status') ?? 'unknown'})`;
  }
  if (!record.guestLines.some((line) => line.startsWith('done '))) return 'the guest did not come to its end';
  return undefined;
}

/**
 * The guest's `result` as numbers.
 *
 * @param {RunRecord} record
 * @returns {Map<string, number>}
 */
export function resultOf(record) {
  const line = record.guestLines.find((one) => one.startsWith('result ')) ?? '';
  return new Map([...line.matchAll(/([\w-]+)=(\d+)/g)].map(([, key = '', value]) => [key, Number(value)]));
}

/**
 * @param {RunRecord} record of a run without failures
 * @param {'operations' | 'bytes'} rate
 * @returns {Sample}
 */
export function sampleOf(record, rate) {
  const result = resultOf(record);
  const number = (/** @type {string} */ name) => Number(record.values.get(name) ?? 0);
  const cyclesPerNs = number('tsc-mhz') / 1000;
  const operations = result.get('ops') ?? 0;
  const seconds = (result.get('cycles') ?? 0) / cyclesPerNs / 1e9;
  const [restWall = 0, restCpu = 0] = (record.values.get('rest') ?? '').split(' ').map(Number);
  const amount = rate === 'bytes' ? (result.get('bytes') ?? 0) : operations;
  return {
    rate: amount / seconds,
    operations,
    cpu: number('cpu') / operations,
    cpuOutside: (number('cpu') - number('cpu-vcpu')) / operations,
    idle: restWall > 0 ? restCpu / restWall : 0,
    kicks: (result.get('kicks') ?? 0) / operations,
    quantiles: quantilesOf(record, cyclesPerNs),
  };
}

/**
 * @param {RunRecord} record
 * @param {number} cyclesPerNs
 */
function quantilesOf(record, cyclesPerNs) {
  const line = record.guestLines.find((one) => one.startsWith('quantiles ')) ?? '';
  return Object.fromEntries(
    [...line.matchAll(/(\d+):(\d+)/g)].map(([, ppm = '', cycles]) => [ppm, Number(cycles) / cyclesPerNs]),
  );
}

/** A page-table based KVM does not count kvm_exit; these together are the exits that it knows of. */
const KINDS_OF_EXIT = ['kvm_mmio', 'kvm_fast_mmio', 'kvm_pio', 'kvm_msr', 'kvm_vcpu_wakeup'];

/**
 * Exits an operation in a run that counted them; undefined where the host cannot.
 *
 * @param {RunRecord} record
 * @returns {{all: number, toUserSpace: number} | undefined}
 */
export function exitsOf(record) {
  const operations = resultOf(record).get('ops') ?? 0;
  if (record.counters.size === 0 || operations === 0) return undefined;
  const count = (/** @type {string} */ name) => record.counters.get(name) ?? 0;
  const all = count('kvm_exit') || KINDS_OF_EXIT.reduce((sum, name) => sum + count(name), 0);
  return { all: all / operations, toUserSpace: count('kvm_userspace_exit') / operations };
}

/** What blk, net and vsock find: for each case and VMM the samples of all rounds, told as text and as JSON. */
import { conditionsText, hostSentence, reportHead } from '../lib/results.mjs';
import { summarize } from '../lib/statistics.mjs';
import { formatNumber, formatTable } from '../lib/table.mjs';

/** @typedef {import('./cases/cases.mjs').Case} Case */
/** @typedef {import('./record.mjs').Sample} Sample */
/** @typedef {import('../lib/results.mjs').Report} Report */
/** @typedef {ReturnType<IoResults['toJson']>} IoJson */

/**
 * @typedef {object} Entry
 * @property {Map<number, Sample>} samples by round
 * @property {string[]} failures
 * @property {boolean} warm the round before the first went well
 * @property {{all: number, toUserSpace: number} | undefined} exits
 */

/**
 * @typedef {object} Ratio of the first subject's figure to another's, round by round
 * @property {number} median
 * @property {number} min
 * @property {number} max
 */

/** @implements {Report} */
export class IoResults {
  /** @param {string} benchmark */
  constructor(benchmark) {
    this.benchmark = benchmark;
    /** @type {Map<Case, Map<string, Entry>>} */
    this.cases = new Map();
    /** @type {{subject: string, reason: string}[]} */
    this.skipped = [];
    /** @type {Record<string, string>} */
    this.versions = {};
    /** @type {string[]} */
    this.notes = [];
    /** @type {number | undefined} how often every contender has its turn */
    this.rounds = undefined;
    /** @type {import('../lib/conditions.mjs').Conditions | undefined} */
    this.conditions = undefined;
  }

  /**
   * @param {string} subject
   * @param {string} reason
   */
  skip(subject, reason) {
    this.skipped.push({ subject, reason });
  }

  /**
   * @param {Case} one
   * @param {string} subject
   * @param {number} round
   * @param {Sample} sample
   */
  add(one, subject, round, sample) {
    this.#entry(one, subject).samples.set(round, sample);
  }

  /**
   * @param {Case} one
   * @param {string} subject
   * @param {string} reason
   */
  fail(one, subject, reason) {
    this.#entry(one, subject).failures.push(reason);
  }

  /**
   * @param {Case} one
   * @param {string} subject
   * @param {Entry['exits']} exits
   * @param {string | undefined} missing why there are none
   */
  addExits(one, subject, exits, missing) {
    Object.assign(this.#entry(one, subject), { exits, warm: true });
    const note = missing && `exits are not counted: ${missing}`;
    if (note && !this.notes.includes(note)) this.notes.push(note);
  }

  /**
   * Whether the round before the first went well.
   *
   * @param {Case} one
   * @param {string} subject
   */
  isWarm(one, subject) {
    return this.cases.get(one)?.get(subject)?.warm ?? false;
  }

  /**
   * @param {Case} one
   * @param {string} subject
   */
  #entry(one, subject) {
    const entries = this.cases.get(one) ?? new Map();
    this.cases.set(one, entries);
    /** @type {Entry} */
    const entry = entries.get(subject) ?? { samples: new Map(), failures: [], exits: undefined, warm: false };
    entries.set(subject, entry);
    return entry;
  }

  toText() {
    const parts = [`Benchmark: ${this.benchmark} (${hostSentence()})\n${conditionsText(this)}`];
    for (const [one, entries] of this.cases) {
      parts.push(`\n${one.name}: ${one.title}\n\n${caseTable(one, entries)}`);
      for (const [subject, { failures }] of entries)
        for (const failure of failures) parts.push(`failed: ${subject}: ${failure}\n`);
    }
    if (this.cases.size > 0) parts.push(`\n${LEGEND}`);
    if (this.notes.length > 0) parts.push(`\n${this.notes.join('\n')}\n`);
    for (const { subject, reason } of this.skipped) parts.push(`\nskipped: ${subject}: ${reason}`);
    return `${parts.join('')}\n`;
  }

  toJson() {
    return {
      ...reportHead(this),
      cases: [...this.cases].map(([one, entries]) => ({
        name: one.name,
        title: one.title,
        rate: one.rate,
        options: one.guest,
        subjects: [...entries].map(([subject, entry]) => ({
          subject,
          exits: entry.exits,
          failures: entry.failures,
          rateRatio: ratioTo(entries, subject, (sample) => sample.rate),
          cpuRatio: ratioTo(entries, subject, (sample) => sample.cpu),
          samples: [...entry.samples.values()],
        })),
      })),
      notes: this.notes,
      skipped: this.skipped,
    };
  }
}

const LEGEND = [
  "CPU: host CPU time an operation, all threads of the VMM (outside: without its vCPU's). Idle: the share of a CPU that is",
  'used outside of the vCPU while the guest leaves the device alone, right afterwards. Exits and doorbells an operation;',
  'exits in a round of its own that counts them. Ratios: median of the rounds, and the range.\n',
].join('\n');

/**
 * @param {Case} one
 * @param {Map<string, Entry>} entries
 */
function caseTable(one, entries) {
  const [reference = ''] = entries.keys();
  const [unit, scale] = one.rate === 'bytes' ? ['MB/s', 1e6] : ['kops/s', 1e3];
  const head = [
    '',
    unit,
    'min-max',
    'CPU us',
    'outside',
    'idle %',
    'p50 us',
    'p99',
    'p99.9',
    'exits',
    'doorbells',
  ];
  head.push(`${reference} / it`, 'min-max', 'CPU ratio');
  const rows = [...entries].map(([subject, entry]) => {
    const samples = [...entry.samples.values()];
    if (samples.length === 0) return [subject, 'failed', ...Array(head.length - 2).fill('')];
    const rate = summarize(samples.map((sample) => sample.rate / scale));
    const median = (/** @type {(sample: Sample) => number} */ of) =>
      formatNumber(summarize(samples.map(of)).median);
    const ratio = ratioTo(entries, subject, (sample) => sample.rate);
    const cpuRatio = ratioTo(entries, subject, (sample) => sample.cpu);
    return [
      subject,
      formatNumber(rate.median),
      `${formatNumber(rate.min)}-${formatNumber(rate.max)}`,
      median((sample) => sample.cpu / 1000),
      median((sample) => sample.cpuOutside / 1000),
      median((sample) => sample.idle * 100),
      ...['500000', '990000', '999000'].map((ppm) =>
        samples[0]?.quantiles[ppm] === undefined
          ? ''
          : median(({ quantiles }) => (quantiles[ppm] ?? 0) / 1000),
      ),
      entry.exits ? formatNumber(entry.exits.all) : '?',
      median((sample) => sample.kicks),
      ratio ? formatNumber(ratio.median) : '',
      ratio ? `${formatNumber(ratio.min)}-${formatNumber(ratio.max)}` : '',
      cpuRatio ? formatNumber(cpuRatio.median) : '',
    ];
  });
  return formatTable(head, rows);
}

/**
 * The first subject's figure as a multiple of this one's, in rounds that both have.
 *
 * @param {Map<string, Entry>} entries
 * @param {string} subject
 * @param {(sample: Sample) => number} figure
 * @returns {Ratio | undefined} undefined for the first subject itself
 */
export function ratioTo(entries, subject, figure) {
  const [reference = ''] = entries.keys();
  const own = entries.get(reference)?.samples;
  const others = entries.get(subject)?.samples;
  if (subject === reference || !own || !others) return undefined;
  const ratios = [...others].flatMap(([round, sample]) => {
    const mine = own.get(round);
    return mine && figure(sample) > 0 ? [figure(mine) / figure(sample)] : [];
  });
  if (ratios.length === 0) return undefined;
  const { median, min, max } = summarize(ratios);
  return { median, min, max };
}

/** What a benchmark finds: samples by subject and metric, told as text and as JSON. */
import fs from 'node:fs';
import os from 'node:os';
import { caution, conditionsSentence } from './conditions.mjs';
import { summarize } from './statistics.mjs';
import { formatNumber, formatTable } from './table.mjs';

/**
 * @typedef {object} Metric
 * @property {string} id
 * @property {string} title
 * @property {string} unit
 * @property {readonly string[]} references subjects to give ratios against, where they were measured too
 */

/**
 * What every benchmark returns.
 *
 * @typedef {object} Report
 * @property {import('./conditions.mjs').Conditions | undefined} conditions set when it is complete
 * @property {() => string} toText
 * @property {() => ReportJson} toJson
 */

/** @typedef {ReturnType<Results['toJson']>} MetricsJson */
/** @typedef {MetricsJson | import('../io/ioResults.mjs').IoJson} ReportJson */

/** @implements {Report} */
export class Results {
  /** @param {string} benchmark */
  constructor(benchmark) {
    this.benchmark = benchmark;
    /** @type {Map<Metric, Map<string, number[]>>} */
    this.samples = new Map();
    /** @type {{subject: string, reason: string}[]} */
    this.skipped = [];
    /** @type {{subject: string, reason: string}[]} runs that have no figures */
    this.failures = [];
    /** @type {Record<string, string>} versions of what was measured, by subject */
    this.versions = {};
    /** @type {string[]} */
    this.notes = [];
    /** @type {number | undefined} how often every contender has its turn */
    this.rounds = undefined;
    /** @type {import('./conditions.mjs').Conditions | undefined} */
    this.conditions = undefined;
  }

  /**
   * @param {Metric} metric
   * @param {string} subject
   * @param {number} value
   */
  add(metric, subject, value) {
    const bySubject = this.samples.get(metric) ?? new Map();
    this.samples.set(metric, bySubject);
    bySubject.set(subject, [...(bySubject.get(subject) ?? []), value]);
  }

  /**
   * @param {string} subject
   * @param {string} reason
   */
  skip(subject, reason) {
    this.skipped.push({ subject, reason });
  }

  /**
   * Unless it is known.
   *
   * @param {string} subject
   * @param {string} reason
   */
  skipOnce(subject, reason) {
    if (!this.skipped.some((one) => one.subject === subject)) this.skip(subject, reason);
  }

  /**
   * @param {string} subject
   * @param {string} reason
   */
  fail(subject, reason) {
    this.failures.push({ subject, reason });
  }

  toText() {
    const parts = [`Benchmark: ${this.benchmark} (${hostSentence()})\n${conditionsText(this)}`];
    for (const [metric, bySubject] of this.samples) {
      parts.push(`\n${metric.title}, ${metric.unit}\n\n${metricTable(metric, bySubject)}`);
    }
    if (this.notes.length > 0) parts.push(`\n${this.notes.join('\n')}\n`);
    for (const { subject, reason } of this.failures) parts.push(`\nfailed: ${subject}: ${reason}`);
    for (const { subject, reason } of this.skipped) parts.push(`\nskipped: ${subject}: ${reason}`);
    return `${parts.join('')}\n`;
  }

  toJson() {
    const metrics = [...this.samples].map(([metric, bySubject]) => ({
      id: metric.id,
      title: metric.title,
      unit: metric.unit,
      subjects: [...bySubject].map(([subject, samples]) => ({
        subject,
        ...summarize(samples),
        ratios: ratios(metric, bySubject, subject),
        samples,
      })),
    }));
    return {
      ...reportHead(this),
      metrics,
      notes: this.notes,
      failures: this.failures,
      skipped: this.skipped,
    };
  }
}

/**
 * @param {string} file
 * @param {readonly Report[]} results
 */
export function writeJson(file, results) {
  fs.writeFileSync(
    file,
    `${JSON.stringify({ version: 1, benchmarks: results.map((one) => one.toJson()) })}\n`,
  );
}

/** The host that measures, in a few words. */
export function hostSentence() {
  return `${os.cpus().length} CPUs, Linux ${os.release()}`;
}

/**
 * What every report says of itself.
 *
 * @param {Pick<Results, 'benchmark' | 'versions' | 'rounds' | 'conditions'>} results
 */
export function reportHead({ benchmark, versions, rounds, conditions }) {
  return {
    benchmark,
    date: new Date().toISOString(),
    host: { kernel: os.release(), cpus: os.cpus().length, memory: os.totalmem() },
    versions,
    rounds,
    conditions,
  };
}

/**
 * Lines of text, each ended; none before the benchmark is complete.
 *
 * @param {Pick<Results, 'rounds' | 'conditions'>} results
 */
export function conditionsText({ rounds, conditions }) {
  if (conditions === undefined) return '';
  const warning = caution(conditions);
  return `${conditionsSentence(rounds, conditions)}\n${warning === undefined ? '' : `${warning}\n`}`;
}

/**
 * @param {Metric} metric
 * @param {Map<string, number[]>} bySubject
 */
function metricTable(metric, bySubject) {
  const references = metric.references.filter((name) => bySubject.has(name));
  const head = ['', 'median', 'quartiles', 'min', 'max', 'n', ...references.map((name) => `/ ${name}`)];
  const rows = [...bySubject].map(([subject, samples]) => {
    const summary = summarize(samples);
    const ratio = ratios(metric, bySubject, subject);
    return [
      subject,
      formatNumber(summary.median),
      `${formatNumber(summary.q1)}-${formatNumber(summary.q3)}`,
      formatNumber(summary.min),
      formatNumber(summary.max),
      String(summary.count),
      ...references.map((name) => (ratio[name] === undefined ? '' : formatNumber(ratio[name]))),
    ];
  });
  return formatTable(head, rows);
}

/**
 * The subject's median as a multiple of each reference's from the same run.
 *
 * @param {Metric} metric
 * @param {Map<string, number[]>} bySubject
 * @param {string} subject
 * @returns {Record<string, number>}
 */
function ratios(metric, bySubject, subject) {
  /** @type {Record<string, number>} */
  const result = {};
  const own = summarize(bySubject.get(subject) ?? []).median;
  for (const name of metric.references) {
    const samples = bySubject.get(name);
    if (!samples || name === subject) continue;
    const median = summarize(samples).median;
    if (median > 0) result[name] = own / median;
  }
  return result;
}

/** Cases of blk, net and vsock: an overview of ratios, then each case's rates, CPU time and latencies. */
import { summarize } from '../lib/statistics.mjs';
import { formatNumber } from '../lib/table.mjs';
import { barChart } from './bars.mjs';
import { latencyChart } from './latency.mjs';
import { ratioChart } from './ratios.mjs';
import { classOf } from './subjects.mjs';
import { escaped } from './svg.mjs';

/** @typedef {import('../io/ioResults.mjs').IoJson} IoJson */
/** @typedef {IoJson['cases'][number]} CaseJson */
/** @typedef {import('../io/record.mjs').Sample} Sample */

/** @param {IoJson} report */
export function ioSection({ cases }) {
  const rows = cases.map(({ name, subjects }) => ({
    name,
    ratios: subjects.flatMap(({ subject, rateRatio }) => (rateRatio ? [{ subject, ...rateRatio }] : [])),
  }));
  const reference = cases[0]?.subjects[0]?.subject ?? '';
  const subjects = [...new Set(cases.flatMap((one) => one.subjects.map(({ subject }) => subject)))];
  const compared = rows.filter(({ ratios }) => ratios.length > 0);
  const overview = `<div class="card"><h3>${escaped(reference)}'s rate as a multiple of the others'</h3>
<p>Right of the line ${escaped(reference)} is faster. Dots: medians of the rounds; lines: their range.</p>${legend(subjects.slice(1))}
${compared.length > 0 ? ratioChart('ratios of rates', compared) : ''}</div>`;
  return `${compared.length > 0 ? overview : ''}${cases.map(caseCard).join('\n')}`;
}

/** @param {readonly string[]} subjects */
function legend(subjects) {
  const items = subjects.map(
    (subject) => `<span><i class="${classOf(subject)}"></i>${escaped(subject)}</span>`,
  );
  return `<div class="legend">${items.join('')}</div>`;
}

/** @param {CaseJson} one */
function caseCard({ name, title, rate, subjects }) {
  const measured = subjects.filter(({ samples }) => samples.length > 0);
  if (measured.length === 0)
    return `<div class="card"><h3>${escaped(name)}</h3><p>${escaped(title)}: nobody could</p></div>`;
  const [unit, divisor] = rate === 'bytes' ? ['MB/s', 1e6] : ['thousands a second', 1e3];
  const median = (/** @type {readonly Sample[]} */ samples, /** @type {(sample: Sample) => number} */ of) =>
    summarize(samples.map(of)).median;
  const rates = measured.map(({ subject, samples }) => ({
    subject,
    value: median(samples, (sample) => sample.rate / divisor),
    samples: samples.map((sample) => sample.rate / divisor),
  }));
  const costs = measured.map(({ subject, samples }) => ({
    subject,
    value: median(samples, (sample) => sample.cpu / 1000),
    part: median(samples, (sample) => sample.cpuOutside / 1000),
    samples: [],
  }));
  const curves = measured.flatMap(({ subject, samples }) => {
    const quantiles = medianQuantiles(samples);
    return Object.keys(quantiles).length > 0 ? [{ subject, quantiles }] : [];
  });
  const figures = [
    figure(`${unit} (dots: single rounds)`, barChart(`rates of ${name}`, rates)),
    figure(
      'host CPU, microseconds an operation (solid: outside the vCPU)',
      barChart(`CPU time of ${name}`, costs),
    ),
    ...(curves.length > 0
      ? [figure('latency in microseconds, by percentile', latencyChart(`latencies of ${name}`, curves))]
      : []),
  ];
  const names = measured.map(({ subject }) => subject);
  return `<div class="card"><h3>${escaped(name)}</h3><p>${escaped(title)}</p>${legend(names)}
<div class="plots">${figures.join('\n')}</div>
<details><summary>figures</summary>${figuresTable(measured)}</details></div>`;
}

/**
 * @param {string} caption
 * @param {string} content
 */
function figure(caption, content) {
  return `<figure><figcaption>${escaped(caption)}</figcaption>${content}</figure>`;
}

/** @param {readonly Sample[]} samples at least one */
function medianQuantiles(samples) {
  return Object.fromEntries(
    Object.keys(samples[0]?.quantiles ?? {}).map((ppm) => [
      ppm,
      summarize(samples.map(({ quantiles }) => quantiles[ppm] ?? 0)).median,
    ]),
  );
}

/** @param {CaseJson['subjects']} subjects */
function figuresTable(subjects) {
  const head = [
    '',
    'rate / s',
    'CPU us',
    'idle %',
    'p50 us',
    'p99 us',
    'p99.9 us',
    'exits',
    'doorbells',
    'ratio',
    'CPU ratio',
  ];
  const rows = subjects.map(({ subject, samples, exits, rateRatio, cpuRatio }) => {
    const median = (/** @type {(sample: Sample) => number} */ of) =>
      formatNumber(summarize(samples.map(of)).median);
    const range = rateRatio && ` (${formatNumber(rateRatio.min)}-${formatNumber(rateRatio.max)})`;
    return [
      subject,
      median((sample) => sample.rate),
      median((sample) => sample.cpu / 1000),
      median((sample) => sample.idle * 100),
      ...['500000', '990000', '999000'].map((ppm) => median(({ quantiles }) => (quantiles[ppm] ?? 0) / 1000)),
      exits ? formatNumber(exits.all) : '?',
      median((sample) => sample.kicks),
      rateRatio ? `${formatNumber(rateRatio.median)}${range}` : '',
      cpuRatio ? formatNumber(cpuRatio.median) : '',
    ];
  });
  const cells = (/** @type {string} */ kind, /** @type {readonly string[]} */ words) =>
    `<tr>${words.map((word) => `<${kind}>${escaped(word)}</${kind}>`).join('')}</tr>`;
  return `<div class="wide"><table>${cells('th', head)}${rows.map((row) => cells('td', row)).join('')}</table></div>`;
}

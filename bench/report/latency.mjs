/** Latencies by percentile, a curve for each subject; both axes stretch what is rare. */
import { formatNumber } from '../lib/table.mjs';
import { classOf } from './subjects.mjs';
import { line, logTicks, plot, scale, tag, text, widthOf } from './svg.mjs';

const WIDTH = 360;
const HEIGHT = 190;
/** Between the labels of the vertical axis and the axis. */
const LABEL_GAP = 6;
const RIGHT = 10;
const BOTTOM = 24;
const TOP = 8;

/** Where the horizontal axis ends: 99.99 %. The single fastest request (0) says nothing. */
const NINES = 4;
const MARKS = /** @type {const} */ ([
  [500_000, '50'],
  [900_000, '90'],
  [990_000, '99'],
  [999_000, '99.9'],
  [999_900, '99.99'],
]);

/**
 * @typedef {object} Curve
 * @property {string} subject
 * @property {Readonly<Record<string, number>>} quantiles nanoseconds by parts in a million
 */

/**
 * @param {string} label
 * @param {readonly Curve[]} curves
 */
export function latencyChart(label, curves) {
  const shown = curves.map(({ subject, quantiles }) => ({ subject, points: pointsOf(quantiles) }));
  const times = shown.flatMap(({ points }) => points.map((point) => point.microseconds));
  const marks = logTicks(Math.min(...times), Math.max(...times));
  const y = scale([marks[0] ?? 1, marks.at(-1) ?? 10], [HEIGHT - BOTTOM, TOP], 'log');
  const left = Math.max(...marks.map((mark) => widthOf(formatNumber(mark)))) + LABEL_GAP;
  const x = scale([0, NINES], [left, WIDTH - RIGHT]);
  const grid = [
    ...thinned(marks).flatMap((mark) => [
      line(left, y(mark), WIDTH - RIGHT, y(mark), 'grid'),
      text(left - LABEL_GAP, y(mark) + 4, formatNumber(mark), { class: 'tick', 'text-anchor': 'end' }),
    ]),
    ...MARKS.flatMap(([ppm, name]) => [
      line(x(nines(ppm)), TOP, x(nines(ppm)), HEIGHT - BOTTOM, 'grid'),
      text(x(nines(ppm)), HEIGHT - BOTTOM + 15, name, {
        class: 'tick',
        'text-anchor': ppm === 999_900 ? 'end' : 'middle',
      }),
    ]),
  ];
  const lines = shown.map(({ subject, points }) => {
    const path = points.map(
      (one, index) =>
        `${index === 0 ? 'M' : 'L'}${x(one.nines).toFixed(1)} ${y(one.microseconds).toFixed(1)}`,
    );
    const title = tag('title', {}, subject);
    return tag('path', { d: path.join(''), class: `curve ${classOf(subject)}` }, title);
  });
  return plot(WIDTH, HEIGHT, label, [...grid, ...lines]);
}

/** @param {Readonly<Record<string, number>>} quantiles */
function pointsOf(quantiles) {
  return Object.entries(quantiles)
    .map(([ppm, time]) => ({ nines: nines(Number(ppm)), microseconds: Math.max(time / 1000, 0.01) }))
    .filter((point) => point.nines > 0 && point.nines < NINES + 0.01)
    .sort((a, b) => a.nines - b.nines);
}

/** @param {number} ppm */
function nines(ppm) {
  return ppm >= 1e6 ? Number.POSITIVE_INFINITY : -Math.log10(1 - ppm / 1e6);
}

/** @param {readonly number[]} marks */
function thinned(marks) {
  if (marks.length <= 8) return marks;
  return marks.filter((mark) => Math.abs(Math.log10(mark) - Math.round(Math.log10(mark))) < 0.01);
}

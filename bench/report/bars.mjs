/** Horizontal bars, one for each subject: what was measured, and its spread. */
import { formatNumber } from '../lib/table.mjs';
import { classOf } from './subjects.mjs';
import { line, plot, scale, tag, text, ticks } from './svg.mjs';

const WIDTH = 360;
/** A letter of a name is about this wide. */
const LETTER = 6.1;
const ROW = 24;
const BAR = 13;
const FOOT = 20;
const VALUES = 48;

/**
 * @typedef {object} Bar
 * @property {string} subject
 * @property {number} value
 * @property {number} [part] of the value, at its start, that is drawn solid while the rest is drawn lighter
 * @property {readonly number[]} samples single ones, drawn as dots
 */

/**
 * @param {string} label
 * @param {readonly Bar[]} bars
 */
export function barChart(label, bars) {
  const marks = ticks(Math.max(...bars.flatMap((bar) => [bar.value, ...bar.samples])) || 1);
  const end = marks.at(-1) ?? 1;
  const left = Math.max(...bars.map((bar) => bar.subject.length)) * LETTER + 14;
  const x = scale([0, end], [left, WIDTH - VALUES]);
  const bottom = bars.length * ROW + 4;
  const grid = marks.flatMap((mark) => [
    line(x(mark), 0, x(mark), bottom, 'grid'),
    text(x(mark), bottom + 14, formatNumber(mark), { class: 'tick', 'text-anchor': 'middle' }),
  ]);
  const rows = bars.flatMap((bar, index) => row(bar, index * ROW + 4, left, x));
  return plot(WIDTH, bottom + FOOT, label, [...grid, ...rows]);
}

/**
 * @param {Bar} bar
 * @param {number} top
 * @param {number} left
 * @param {(value: number) => number} x
 */
function row({ subject, value, part, samples }, top, left, x) {
  const name = classOf(subject);
  const middle = top + BAR / 2;
  const box = (/** @type {number} */ to, /** @type {string} */ kind) =>
    tag('rect', {
      x: left,
      y: top,
      width: Math.max(x(to) - left, 1),
      height: BAR,
      rx: 2,
      class: `${kind} ${name}`,
    });
  const spread = samples.length > 1 ? [Math.min(...samples), Math.max(...samples)] : [];
  const [low, high] = spread;
  return [
    text(left - 8, middle + 4, subject, { class: 'name', 'text-anchor': 'end' }),
    ...(part === undefined ? [box(value, 'bar')] : [box(value, 'bar light'), box(part, 'bar')]),
    ...(low !== undefined && high !== undefined ? [line(x(low), middle, x(high), middle, 'spread')] : []),
    ...samples.map((sample) => tag('circle', { cx: x(sample), cy: middle, r: 1.8, class: 'sample' })),
    text(Math.max(x(value), high === undefined ? 0 : x(high)) + 6, middle + 4, formatNumber(value), {
      class: 'value',
    }),
  ];
}

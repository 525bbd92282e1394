/** Horizontal bars, one for each subject: what was measured, and its spread. */
import { formatNumber } from '../lib/table.mjs';
import { classOf } from './subjects.mjs';
import { line, plot, scale, tag, text, ticks, widthOf } from './svg.mjs';

const WIDTH = 360;
/** Each row has its name above its bar, so that no name is too long. */
const NAME = 16;
const BAR = 13;
const ROW = NAME + BAR + 7;
const FOOT = 20;
/** Half of the first tick's label is left of the axis. */
const LEFT = 6;
const VALUE_GAP = 6;

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
  const values = Math.max(...bars.map((bar) => widthOf(formatNumber(bar.value)))) + VALUE_GAP;
  const x = scale([0, end], [LEFT, WIDTH - Math.max(values, widthOf(formatNumber(end)) / 2)]);
  const bottom = bars.length * ROW + 4;
  const grid = marks.flatMap((mark) => [
    line(x(mark), 0, x(mark), bottom, 'grid'),
    text(x(mark), bottom + 14, formatNumber(mark), { class: 'tick', 'text-anchor': 'middle' }),
  ]);
  const rows = bars.flatMap((bar, index) => row(bar, index * ROW + NAME, x));
  return plot(WIDTH, bottom + FOOT, label, [...grid, ...rows]);
}

/**
 * @param {Bar} bar
 * @param {number} top of the bar
 * @param {(value: number) => number} x
 */
function row({ subject, value, part, samples }, top, x) {
  const name = classOf(subject);
  const middle = top + BAR / 2;
  const box = (/** @type {number} */ to, /** @type {string} */ kind) =>
    tag('rect', {
      x: LEFT,
      y: top,
      width: Math.max(x(to) - LEFT, 1),
      height: BAR,
      rx: 2,
      class: `${kind} ${name}`,
    });
  const spread = samples.length > 1 ? [Math.min(...samples), Math.max(...samples)] : [];
  const [low, high] = spread;
  return [
    text(LEFT, top - 4, subject, { class: 'name' }),
    ...(part === undefined ? [box(value, 'bar')] : [box(value, 'bar light'), box(part, 'bar')]),
    ...(low !== undefined && high !== undefined ? [line(x(low), middle, x(high), middle, 'spread')] : []),
    ...samples.map((sample) => tag('circle', { cx: x(sample), cy: middle, r: 1.8, class: 'sample' })),
    text(Math.max(x(value), high === undefined ? 0 : x(high)) + VALUE_GAP, middle + 4, formatNumber(value), {
      class: 'value',
    }),
  ];
}

/** An overview: for each case how many times faster the first subject is than each other, with the range of the rounds. */
import { formatNumber } from '../lib/table.mjs';
import { classOf } from './subjects.mjs';
import { line, plot, scale, tag, text } from './svg.mjs';

const WIDTH = 1060;
const NAMES = 220;
const RIGHT = 44;
const LANE = 14;
const GAP = 10;
const HEAD = 18;
const MARKS = [0.25, 0.5, 0.8, 1, 1.25, 2, 4];
/** Names end this far left of the axis, so that the longest bar's figure has room. */
const NAME_GAP = 44;

/**
 * @typedef {object} RatioRow
 * @property {string} name
 * @property {readonly {subject: string, median: number, min: number, max: number}[]} ratios
 */

/**
 * @param {string} label
 * @param {readonly RatioRow[]} rows
 */
export function ratioChart(label, rows) {
  const low = MARKS[0] ?? 0.25;
  const high = MARKS.at(-1) ?? 4;
  const place = scale([low, high], [NAMES, WIDTH - RIGHT], 'log');
  const x = (/** @type {number} */ value) => place(Math.min(Math.max(value, low), high));
  let top = HEAD;
  const marks = [];
  for (const { name, ratios } of rows) {
    const height = ratios.length * LANE;
    marks.push(text(NAMES - NAME_GAP, top + height / 2 + 4, name, { class: 'name', 'text-anchor': 'end' }));
    for (const [index, ratio] of ratios.entries()) marks.push(mark(ratio, top + index * LANE + LANE / 2, x));
    top += height + GAP;
    marks.push(line(NAMES, top - GAP / 2, WIDTH - RIGHT, top - GAP / 2, 'grid'));
  }
  const axis = MARKS.flatMap((value) => [
    line(x(value), HEAD - 4, x(value), top - GAP / 2, value === 1 ? 'one' : 'grid'),
    text(x(value), HEAD - 8, `${formatNumber(value)} x`, { class: 'tick', 'text-anchor': 'middle' }),
  ]);
  return plot(WIDTH, top, label, [...axis, ...marks]);
}

/**
 * @param {RatioRow['ratios'][number]} ratio
 * @param {number} y
 * @param {(value: number) => number} x
 */
function mark({ subject, median, min, max }, y, x) {
  const from = x(1);
  const to = x(median);
  const faster = median >= 1;
  const label = faster ? Math.max(to, x(max)) + 7 : Math.min(to, x(min)) - 7;
  const title = `${subject}: ${formatNumber(median)} (${formatNumber(min)} to ${formatNumber(max)})`;
  return tag(
    'g',
    {},
    tag('title', {}, title),
    tag('rect', {
      x: Math.min(from, to),
      y: y - 3,
      width: Math.max(Math.abs(to - from), 1),
      height: 6,
      class: `bar ${classOf(subject)}`,
    }),
    line(x(min), y, x(max), y, 'spread'),
    tag('circle', { cx: to, cy: y, r: 3.2, class: `bar ${classOf(subject)}` }),
    text(label, y + 4, formatNumber(median), { class: 'tick', 'text-anchor': faster ? 'start' : 'end' }),
  );
}

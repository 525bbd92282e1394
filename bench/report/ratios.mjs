/**
 * An overview: for each case how many times faster the first subject is than each other, with the range of the rounds.
 */
import { formatNumber } from '../lib/table.mjs';
import { classOf } from './subjects.mjs';
import { line, plot, scale, tag, text } from './svg.mjs';

/** One for each width of a screen; style.mjs shows the one that fits. */
const LAYOUTS = /** @type {const} */ ([
  { className: 'wide-screen', width: 1060, labels: [0.25, 0.5, 0.8, 1, 1.25, 2, 4] },
  { className: 'narrow-screen', width: 360, labels: [0.25, 0.5, 1, 2, 4] },
]);
/** Left and right of the axis there is room for a bar's figure. */
const MARGIN = 44;
const NAME = 18;
const LANE = 15;
const GAP = 8;
const HEAD = 18;
const MARKS = [0.25, 0.5, 0.8, 1, 1.25, 2, 4];

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
  return LAYOUTS.map((layout) => ratioChartOf(layout, label, rows)).join('\n');
}

/**
 * @param {typeof LAYOUTS[number]} layout
 * @param {string} label
 * @param {readonly RatioRow[]} rows
 */
function ratioChartOf({ className, width, labels }, label, rows) {
  const low = MARKS[0] ?? 0.25;
  const high = MARKS.at(-1) ?? 4;
  const right = width - MARGIN;
  const place = scale([low, high], [MARGIN, right], 'log');
  const x = (/** @type {number} */ value) => place(Math.min(Math.max(value, low), high));
  let top = HEAD;
  const marks = [];
  for (const { name, ratios } of rows) {
    marks.push(text(0, top + NAME - 5, name, { class: 'name' }));
    top += NAME;
    for (const [index, ratio] of ratios.entries()) marks.push(mark(ratio, top + index * LANE + LANE / 2, x));
    top += ratios.length * LANE + GAP;
    marks.push(line(0, top - GAP / 2, width, top - GAP / 2, 'grid'));
  }
  const axis = [
    ...MARKS.map((value) => line(x(value), HEAD - 4, x(value), top - GAP / 2, value === 1 ? 'one' : 'grid')),
    ...labels.map((value) =>
      text(x(value), HEAD - 8, `${formatNumber(value)} x`, { class: 'tick', 'text-anchor': 'middle' }),
    ),
  ];
  return plot(width, top, label, [...axis, ...marks], className);
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

/** Markup and scales for the report's plots. */

/** @param {string} text */
export function escaped(text) {
  return text.replace(/[&<>"]/g, (character) => `&#${character.charCodeAt(0)};`);
}

/**
 * @param {string} name
 * @param {Readonly<Record<string, string | number>>} attributes
 * @param {...string} children markup
 */
export function tag(name, attributes, ...children) {
  const words = Object.entries(attributes).map(
    ([key, value]) => `${key}="${escaped(typeof value === 'number' ? String(round(value)) : value)}"`,
  );
  return `<${[name, ...words].join(' ')}>${children.join('')}</${name}>`;
}

/** The height of letters, as style.mjs has it, in the units of a plot. */
export const LETTER_HEIGHT = 12;

/**
 * How wide a text is at most: fonts differ, and nothing here can measure one.
 *
 * @param {string} content
 */
export function widthOf(content) {
  return content.length * LETTER_HEIGHT * 0.6;
}

/**
 * A plot that takes the width of its place.
 *
 * @param {number} width
 * @param {number} height
 * @param {string} label for those who do not see it
 * @param {readonly string[]} children markup
 * @param {string} [className]
 */
export function plot(width, height, label, children, className) {
  const place = className === undefined ? {} : { class: className };
  return tag(
    'svg',
    { viewBox: `0 0 ${width} ${round(height)}`, role: 'img', 'aria-label': label, ...place },
    ...children,
  );
}

/**
 * @param {number} x
 * @param {number} y
 * @param {string} content
 * @param {Readonly<Record<string, string | number>>} [attributes]
 */
export function text(x, y, content, attributes = {}) {
  return tag('text', { x, y, ...attributes }, escaped(content));
}

/**
 * @param {number} x1
 * @param {number} y1
 * @param {number} x2
 * @param {number} y2
 * @param {string} className
 */
export function line(x1, y1, x2, y2, className) {
  return tag('line', { x1, y1, x2, y2, class: className });
}

/**
 * Maps a range of values to a range of coordinates, evenly or by powers.
 *
 * @param {readonly [number, number]} from values; above 0 if logarithmic
 * @param {readonly [number, number]} to coordinates
 * @param {'linear' | 'log'} [kind]
 * @returns {(value: number) => number}
 */
export function scale([low, high], [start, end], kind = 'linear') {
  const map = kind === 'log' ? Math.log : (/** @type {number} */ value) => value;
  const span = map(high) - map(low) || 1;
  return (value) => start + ((map(value) - map(low)) / span) * (end - start);
}

/**
 * Round numbers from 0 to at least `most`, some four of them.
 *
 * @param {number} most
 */
export function ticks(most) {
  const power = 10 ** Math.floor(Math.log10(most / 4 || 1));
  const step = [1, 2, 5, 10].map((one) => one * power).find((one) => most / one <= 5) ?? power;
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, index) => index * step);
}

/**
 * 1, 2 and 5 times powers of ten that enclose the range.
 *
 * @param {number} low above 0
 * @param {number} high
 */
export function logTicks(low, high) {
  const all = [];
  for (let power = Math.floor(Math.log10(low)) - 1; power <= Math.ceil(Math.log10(high)); power++)
    all.push(...[1, 2, 5].map((one) => one * 10 ** power));
  const first = all.findLastIndex((one) => one <= low * 1.0001);
  const last = all.findIndex((one) => one >= high / 1.0001);
  return all.slice(Math.max(first, 0), last + 1);
}

/** @param {number} value */
function round(value) {
  return Math.round(value * 100) / 100;
}

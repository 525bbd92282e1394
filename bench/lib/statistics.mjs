/** Medians and spread. */

/**
 * @typedef {object} Summary
 * @property {number} count
 * @property {number} median
 * @property {number} q1 lower quartile
 * @property {number} q3 upper quartile
 * @property {number} min
 * @property {number} max
 */

/**
 * @param {readonly number[]} samples at least one
 * @returns {Summary}
 */
export function summarize(samples) {
  if (samples.length === 0) throw new Error('no samples to summarize');
  const sorted = [...samples].sort((a, b) => a - b);
  return {
    count: sorted.length,
    median: quantile(sorted, 0.5),
    q1: quantile(sorted, 0.25),
    q3: quantile(sorted, 0.75),
    min: quantile(sorted, 0),
    max: quantile(sorted, 1),
  };
}

/**
 * The value below which `fraction` of the samples lie, interpolated between neighbours.
 *
 * @param {readonly number[]} sorted ascending, not empty
 * @param {number} fraction from 0 to 1
 */
export function quantile(sorted, fraction) {
  const position = (sorted.length - 1) * fraction;
  const below = Math.floor(position);
  const low = /** @type {number} */ (sorted[below]);
  const high = sorted[below + 1] ?? low;
  return low + (high - low) * (position - below);
}

/** Metrics that have one figure for each subject: start and boot. */
import { barChart } from './bars.mjs';
import { escaped } from './svg.mjs';

/** @param {import('../lib/results.mjs').MetricsJson} report */
export function metricSection({ metrics }) {
  const cards = metrics.map(({ title, unit, subjects }) => {
    const bars = subjects.map(({ subject, median, samples }) => ({
      subject,
      value: median,
      samples: samples.length > 12 ? [] : samples,
    }));
    return `<figure class="card"><figcaption>${escaped(`${title}, ${unit}`)}</figcaption>${barChart(title, bars)}</figure>`;
  });
  return `<div class="plots">${cards.join('\n')}</div>`;
}

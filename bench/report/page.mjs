/** The HTML report: one file that needs nothing else, made of what the benchmarks' JSON says. */
import fs from 'node:fs';
import { caution, conditionsSentence } from '../lib/conditions.mjs';
import { ioSection } from './ioSection.mjs';
import { metricSection } from './metricSection.mjs';
import { STYLE } from './style.mjs';
import { escaped } from './svg.mjs';

/**
 * @param {string} file
 * @param {readonly import('../lib/results.mjs').Report[]} results
 */
export function writeHtml(file, results) {
  fs.writeFileSync(file, reportPage(results.map((one) => one.toJson())));
}

/**
 * @param {readonly import('../lib/results.mjs').ReportJson[]} reports
 * @returns {string}
 */
export function reportPage(reports) {
  const [first] = reports;
  const host = first
    ? `${first.date.slice(0, 10)}, Linux ${first.host.kernel}, ${first.host.cpus} CPUs, ${Math.round(first.host.memory / 2 ** 30)} GiB`
    : '';
  const versions = new Map(reports.flatMap((report) => Object.entries(report.versions)));
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>tsvmm benchmarks</title>
<style>${STYLE}</style>
</head>
<body>
<h1>tsvmm benchmarks</h1>
<p>${escaped(host)}<br>${escaped([...versions].map(([name, version]) => `${name}: ${version}`).join(' · '))}</p>
${reports.map(section).join('\n')}
</body>
</html>
`;
}

/** @param {import('../lib/results.mjs').ReportJson} report */
function section(report) {
  const body = 'cases' in report ? ioSection(report) : metricSection(report);
  const remarks = [
    ...report.notes,
    ...('failures' in report ? report.failures : []).map(
      ({ subject, reason }) => `failed: ${subject}: ${reason}`,
    ),
    ...report.skipped.map(({ subject, reason }) => `skipped: ${subject}: ${reason}`),
  ];
  const head = conditionsHead(report);
  const list = remarks.map((remark) => `<li>${escaped(remark)}</li>`).join('');
  return `<section><h2>${escaped(report.benchmark)}</h2>\n${head}${body}${list && `<details><summary>remarks</summary><ul>${list}</ul></details>`}</section>`;
}

/** @param {import('../lib/results.mjs').ReportJson} report */
function conditionsHead({ rounds, conditions }) {
  if (conditions === undefined) return '';
  const warning = caution(conditions);
  const box = warning === undefined ? '' : `<p class="caution">${escaped(warning)}</p>\n`;
  return `<p>${escaped(conditionsSentence(rounds, conditions))}</p>\n${box}`;
}

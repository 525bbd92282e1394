/**
 * The report's looks, by daylight and in the dark. Colours of subjects are those of Okabe and Ito, told apart by
 * everybody.
 */

import { LETTER_HEIGHT } from './svg.mjs';

const LIGHT = `
  --page: #f6f7f9; --card: #ffffff; --ink: #1d2129; --soft: #667080; --rule: #e3e6ea; --strong: #1d2129;
  --s0: #7fb8dc; --s1: #0072b2; --s2: #cc79a7; --s3: #e69f00; --s4: #6fcbb0; --s5: #009e73; --s6: #d55e00; --other: #8a93a0;
  --warning: #fff3d6; --edge: #e69f00;`;

const DARK = `
  --page: #14161a; --card: #1c1f25; --ink: #e6e9ee; --soft: #98a2b0; --rule: #31363f; --strong: #f4f6f8;
  --s0: #2d6d94; --s1: #56b4e9; --s2: #d99bbf; --s3: #f0b93a; --s4: #1f7d63; --s5: #2cc598; --s6: #f0803c; --other: #7d8794;
  --warning: #3a2f14; --edge: #f0b93a;`;

const SUBJECTS = ['0', '1', '2', '3', '4', '5', '6']
  .map((number) => `.subject-${number} { --colour: var(--s${number}); }`)
  .join('\n');

export const STYLE = `
:root { color-scheme: light dark; ${LIGHT} }
@media (prefers-color-scheme: dark) { :root { ${DARK} } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1160px; padding: 32px 24px 64px; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 26px; margin: 0 0 4px; }
h2 { font-size: 21px; margin: 44px 0 4px; }
h3 { font-size: 16px; margin: 0; }
p { margin: 2px 0 12px; color: var(--soft); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: 18px 20px; margin: 14px 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(300px, 100%), 1fr)); gap: 20px; margin-top: 10px; }
figure { margin: 0; min-width: 0; }
figcaption { font-size: 13px; color: var(--soft); margin-bottom: 6px; }
svg { width: 100%; height: auto; display: block; font: ${LETTER_HEIGHT}px system-ui, sans-serif; }
.legend { display: flex; flex-wrap: wrap; gap: 6px 18px; font-size: 13px; margin: 8px 0; }
.legend i { display: inline-block; width: 11px; height: 11px; border-radius: 3px; margin-right: 6px; background: var(--colour); }
.name { fill: var(--ink); } .value { fill: var(--ink); font-weight: 600; } .tick { fill: var(--soft); }
.caution { color: var(--ink); background: var(--warning); border-left: 4px solid var(--edge); border-radius: 6px; padding: 8px 12px; }
.narrow-screen { display: none; }
.grid { stroke: var(--rule); } .one { stroke: var(--strong); stroke-width: 1.5; }
.spread { stroke: var(--strong); stroke-width: 1.2; opacity: .55; } .sample { fill: var(--strong); opacity: .5; }
.bar { fill: var(--colour); } .light { opacity: .4; }
.curve { fill: none; stroke: var(--colour); stroke-width: 2; stroke-linejoin: round; }
.subject-other { --colour: var(--other); }
${SUBJECTS}
table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
th, td { padding: 4px 12px 4px 0; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; }
th { color: var(--soft); font-weight: 500; }
summary { cursor: pointer; color: var(--soft); font-size: 13px; margin-top: 12px; }
ul { font-size: 13px; color: var(--soft); padding-left: 18px; }
h1, h2, h3, p, figcaption, li, .legend { overflow-wrap: anywhere; }
@media (max-width: 700px) {
  body { padding: 16px 10px 40px; }
  .card { padding: 12px; }
  .wide-screen { display: none; }
  .narrow-screen { display: block; }
}
`;

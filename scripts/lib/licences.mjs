/**
 * What others wrote and our packages contain: found, checked against the licences that we may pass on, and written
 * down.
 */
import fs from 'node:fs';
import path from 'node:path';
import { METAFILES } from './buildJs.mjs';
import { ROOT } from './paths.mjs';
import { Failure } from './progress.mjs';

/** SPDX identifiers of what may be in a package of ours; a licence that is not here stops the packaging. */
const ACCEPTED = new Set([
  '0BSD',
  'Apache-2.0',
  'BSD-2-Clause',
  'BSD-3-Clause',
  'ISC',
  'MIT',
  'Zlib',
  'GPL-3.0-or-later WITH GCC-exception-3.1',
]);

/**
 * @typedef {object} Component
 * @property {string} name
 * @property {string} version
 * @property {string} licence an SPDX expression
 * @property {string} text the licence itself, or where it is
 */

/** What is linked statically into the addon, from Debian's packages, and where these keep the licences. */
const LINKED = /** @type {const} */ ([
  { name: 'zlib', package: 'zlib1g-dev', licence: 'Zlib' },
  { name: 'Zstandard', package: 'libzstd-dev', licence: 'BSD-3-Clause' },
  {
    name: 'libstdc++ and libgcc',
    package: 'libstdc++-12-dev',
    licence: 'GPL-3.0-or-later WITH GCC-exception-3.1',
  },
]);

/** @returns {Component[]} what the JavaScript and the addon of both packages contain */
export function components() {
  return [...bundledPackages(), npmComponent('node-addon-api'), ...LINKED.map(linkedComponent)];
}

/** The runtime, which is in the executable alone. */
export function bunComponent() {
  const { version, license } = manifestOf('bun');
  return {
    name: 'Bun',
    version,
    licence: license,
    text:
      'Bun is under the MIT licence. It links JavaScriptCore and WTF of WebKit statically, which are under LGPL-2.1 and BSD-2-Clause, and ' +
      'other libraries: https://bun.com/docs/project/license names all of them with their licences, and says how to link Bun with a ' +
      'modified JavaScriptCore. The executable is made from it by `bun build --compile`, from sources that are published.',
  };
}

/**
 * The text of THIRD-PARTY-NOTICES.md.
 *
 * @param {readonly Component[]} all
 */
export function notices(all) {
  const parts = all.map(
    ({ name, version, licence, text }) =>
      `## ${name} ${version}\n\nSPDX: ${licence}\n\n\`\`\`\n${text.trim()}\n\`\`\`\n`,
  );
  return `# What others wrote and this package contains\n\n${parts.join('\n')}`;
}

/**
 * Throws a Failure if something is under a licence that we do not pass on.
 *
 * @param {readonly Component[]} all
 */
export function checkLicences(all) {
  const refused = all.filter(({ licence }) => !ACCEPTED.has(licence));
  if (refused.length === 0) return;
  const list = refused.map(({ name, licence }) => `${name} (${licence || 'no licence'})`).join(', ');
  throw new Failure(`a package of ours may not contain ${list}: see scripts/lib/licences.mjs`);
}

/** The npm packages that esbuild has put into our bundles. */
function bundledPackages() {
  const inputs = METAFILES.flatMap((file) => Object.keys(JSON.parse(fs.readFileSync(file, 'utf8')).inputs));
  return packagesAmong(inputs).map(npmComponent);
}

/**
 * @param {readonly string[]} files paths as esbuild reports them
 * @returns {string[]} names of npm packages, each once
 */
export function packagesAmong(files) {
  const found = files.flatMap((file) => {
    const [, name] = /.*node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file) ?? [];
    return name === undefined ? [] : [name];
  });
  return [...new Set(found)].sort();
}

/** @param {string} name @returns {Component} */
function npmComponent(name) {
  const folder = path.join(ROOT, 'node_modules', name);
  const { version, license, author } = manifestOf(name);
  const file = fs.readdirSync(folder).find((one) => /^licen[cs]e/i.test(one));
  if (file !== undefined) {
    return { name, version, licence: license ?? '', text: fs.readFileSync(path.join(folder, file), 'utf8') };
  }
  // Its manifest names the licence and who has the copyright; the licence's own words are known.
  if (license !== 'ISC' || !author) throw new Failure(`the npm package ${name} has no licence file`);
  const holder = typeof author === 'string' ? author : author.name;
  return { name, version, licence: license, text: `Copyright (c) ${holder} and contributors\n\n${ISC}` };
}

/** The ISC licence (https://spdx.org/licenses/ISC.html). */
const ISC = `Permission to use, copy, modify, and/or distribute this software for any purpose with or without fee is hereby
granted, provided that the above copyright notice and this permission notice appear in all copies.

THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING ALL
IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN
AN ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR
PERFORMANCE OF THIS SOFTWARE.
`;

/** @param {string} name */
function manifestOf(name) {
  return JSON.parse(fs.readFileSync(path.join(ROOT, 'node_modules', name, 'package.json'), 'utf8'));
}

/** @param {typeof LINKED[number]} one @returns {Component} */
function linkedComponent({ name, package: packageName, licence }) {
  const file = `/usr/share/doc/${packageName}/copyright`;
  const text = fs.existsSync(file) ? fs.readFileSync(file, 'utf8') : `as in ${packageName} of Debian 12`;
  return { name, version: `(of Debian's ${packageName})`, licence, text };
}

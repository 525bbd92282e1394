/**
 * Which folder of native/ may include which: dependencies point one way. biome.json holds src/ to the same. And what
 * may refer to a folder that is for one architecture.
 */
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from './paths.mjs';
import { Failure } from './progress.mjs';
import { filesBelow } from './stamp.mjs';

/** @type {Record<string, readonly string[]>} */
const MAY_INCLUDE = {
  core: [],
  memory: ['core'],
  host: ['core'],
  bus: ['core'],
  disk: ['core'],
  net: ['core'],
  hypervisor: ['core', 'memory'],
  pci: ['core', 'bus', 'hypervisor'],
  device: ['core', 'bus', 'hypervisor'],
  virtio: ['core', 'memory', 'bus', 'hypervisor', 'disk', 'net', 'pci', 'device'],
  machine: ['core', 'memory', 'bus', 'hypervisor', 'disk', 'net', 'pci', 'device', 'virtio'],
  addon: ['core', 'host', 'hypervisor', 'machine'],
};

/** Folders of native/ that are for one architecture, as CMakeLists.txt leaves them out for others. */
const ARCHITECTURE = /(?:^|\/)(?:x86_64|aarch64)\//;

/** Of compilers: which architecture they compile for. */
const ASKS_ARCHITECTURE = /^#\s*(?:el)?if.*__(?:x86_64|amd64|i386|aarch64|arm)/m;

/**
 * What makes a file of every architecture one of a particular one: it asks for it, or includes a header from its
 * folder. The addon may: it looks at the host for the architecture that it is built for.
 *
 * @param {string} name below native/
 * @param {string} text
 * @returns {string[]}
 */
function architectureComplaints(name, text) {
  if (ARCHITECTURE.test(name) || name.startsWith('addon/')) return [];
  const complaints = [...text.matchAll(/^#include "([^"]+)"/gm)]
    .map((found) => String(found[1]))
    .filter((header) => ARCHITECTURE.test(header))
    .map((header) => `native/${name} includes ${header}, which is for one architecture`);
  if (ASKS_ARCHITECTURE.test(text))
    complaints.push(`native/${name} asks for the architecture: make a file for each`);
  return complaints;
}

/** Where src/ chooses between architectures: all else has its types and functions from there. */
const CHOOSES_ARCHITECTURE = [
  'platform/plan.ts',
  'boundary/machineSpec.ts',
  'native.ts',
  'api/gdb/processor.ts',
];

/**
 * Imports of what is for one architecture by what is for every one.
 *
 * @param {string} name below src/
 * @param {string} text
 * @returns {string[]}
 */
export function importComplaints(name, text) {
  if (ARCHITECTURE.test(name) || CHOOSES_ARCHITECTURE.includes(name)) return [];
  return [...text.matchAll(/(?:from|import\() ?'(\.[^']+)'/g)]
    .map((found) => String(found[1]))
    .filter((file) => ARCHITECTURE.test(file))
    .map((file) => `src/${name} imports ${file}, which is for one architecture`);
}

/** Throws a Failure that names every include and import that points the wrong way. */
export function checkLayers() {
  const complaints = filesBelow(['native']).flatMap((file) => {
    const name = path.relative(path.join(ROOT, 'native'), file);
    const folder = String(name.split('/')[0]);
    const allowed = MAY_INCLUDE[folder];
    if (!allowed) return [`native/${name}: the folder has no place in scripts/lib/layers.mjs`];
    const text = fs.readFileSync(file, 'utf8');
    const included = [...text.matchAll(/^#include "([a-z0-9_]+)\//gm)];
    const wrongWay = included
      .map((found) => String(found[1]))
      .filter((other) => other !== folder && !allowed.includes(other))
      .map((other) => `native/${name} includes ${other}/, which ${folder}/ must not know`);
    return [...wrongWay, ...architectureComplaints(name, text)];
  });
  for (const file of filesBelow(['src'])) {
    const name = path.relative(path.join(ROOT, 'src'), file);
    complaints.push(...importComplaints(name, fs.readFileSync(file, 'utf8')));
  }
  if (complaints.length) throw new Failure(complaints.join('\n'));
}

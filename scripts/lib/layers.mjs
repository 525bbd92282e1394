/** Which folder of native/ may include which: dependencies point one way. biome.json holds src/ to the same. */
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

/** Throws a Failure that names every include that points the wrong way. */
export function checkLayers() {
  const complaints = filesBelow(['native']).flatMap((file) => {
    const name = path.relative(path.join(ROOT, 'native'), file);
    const folder = String(name.split('/')[0]);
    const allowed = MAY_INCLUDE[folder];
    if (!allowed) return [`native/${name}: the folder has no place in scripts/lib/layers.mjs`];
    const included = [...fs.readFileSync(file, 'utf8').matchAll(/^#include "([a-z0-9_]+)\//gm)];
    return included
      .map((found) => String(found[1]))
      .filter((other) => other !== folder && !allowed.includes(other))
      .map((other) => `native/${name} includes ${other}/, which ${folder}/ must not know`);
  });
  if (complaints.length) throw new Failure(complaints.join('\n'));
}

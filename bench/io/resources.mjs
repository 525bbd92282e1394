/** What a run needs on the host: a disk image, a tap device, a socket; and whether the work shows there. */
import path from 'node:path';
import { tapCommands } from './cases/net.mjs';
import { resultOf } from './record.mjs';

const TAP = 'tap0';

/**
 * @typedef {object} Resources
 * @property {Pick<import('./contenders.mjs').IoRun, 'disk' | 'tap' | 'vsock'>} run
 * @property {string[]} words options for bench/host
 * @property {(record: import('./record.mjs').RunRecord) => Promise<string | undefined>} faults what is wrong after
 *   the run; undefined if nothing is
 */

/**
 * @param {import('./bench.mjs').IoBench} bench
 * @param {import('./contenders.mjs').Contender} contender
 * @param {import('./cases/cases.mjs').Case} one
 * @param {Map<string, string | number>} settings of the guest; gets the image's seed
 * @param {string} folder of the run
 * @returns {Promise<Resources>}
 */
export async function prepareResources({ images }, contender, one, settings, folder) {
  const { disk, tap, vsock } = await prepareDevices(images, contender, one, settings, folder);
  const words = [];
  if (one.tap) words.push('--shell', tapCommands(TAP, one.tap.returns));
  if (vsock) words.push('--vsock', vsock);
  return {
    run: { disk: disk && { ...disk, queues: Number(settings.get('queues') ?? 1) }, tap, vsock },
    words,
    faults: async (record) => {
      if (tap) return lostFrames(record, one.tap?.returns ?? 0);
      if (!disk || images.isClean(disk.path)) return undefined;
      return images.faults(disk.path, disk.format, disk.seed, resultOf(record).get('distinct-units') ?? -1);
    },
  };
}

/**
 * @param {import('./images.mjs').Images} images
 * @param {import('./contenders.mjs').Contender} contender
 * @param {import('./cases/cases.mjs').Case} one
 * @param {Map<string, string | number>} settings
 * @param {string} folder
 */
async function prepareDevices(images, contender, one, settings, folder) {
  const tap = one.tap && TAP;
  const vsock = one.vsock ? path.join(folder, 'vsock') : undefined;
  if (!one.disk) return { disk: undefined, tap, vsock };
  const kind = contender.raw ? { ...one.disk, format: /** @type {const} */ ('raw') } : one.disk;
  const image = await images.prepare(kind);
  settings.set('seed', image.seed);
  if (Number(settings.get('write') ?? 0) > 0) images.written(image.path);
  return { disk: { ...kind, ...image }, tap, vsock };
}

/**
 * The interface's own counts must agree with the guest's.
 *
 * @param {import('./record.mjs').RunRecord} record
 * @param {number} returns
 */
function lostFrames(record, returns) {
  const sent = resultOf(record).get('sent') ?? -1;
  const lost = resultOf(record).get('lost') ?? 0;
  const counted = record.interfaces.find((one) => one.name === TAP);
  if (counted?.rxPackets !== sent)
    return `the guest sent ${sent} frames, ${TAP} has seen ${counted?.rxPackets}`;
  if (returns > 0 && lost > (sent * returns) / 100)
    return `${lost} of ${sent * returns} frames never came back`;
  return undefined;
}

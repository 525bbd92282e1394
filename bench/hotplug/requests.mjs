/** What is sent to a VMM that runs (bench/host/requests.c), and what came back. */
import fs from 'node:fs';
import path from 'node:path';
import { Failure } from '../../scripts/lib/progress.mjs';

/** How long the VMM is left alone between two requests. */
export const GAP_MS = 20;

/** @typedef {{endpoint: string, body: object}} Request */

/**
 * @param {string} folder
 * @param {readonly Request[]} requests
 * @returns {string} a file for bench/host
 */
export function writeRequests(folder, requests) {
  const file = path.join(folder, 'requests');
  fs.writeFileSync(
    file,
    requests.map(({ endpoint, body }) => `${endpoint} ${JSON.stringify(body)}\n`).join(''),
  );
  return file;
}

/**
 * Makes images for as many disks.
 *
 * @param {string} folder
 * @param {number} count
 * @returns {Request[]}
 */
export function diskRequests(folder, count) {
  return Array.from({ length: count }, (_, index) => {
    const image = path.join(folder, `added${index}.raw`);
    fs.writeFileSync(image, '');
    fs.truncateSync(image, 1 << 20);
    return { endpoint: 'vm.add-disk', body: { path: image, image_type: 'Raw' } };
  });
}

/**
 * @param {string} output of bench/host
 * @returns {{milliseconds: number[], refusals: string[]}} of the requests that were answered with success; texts of the
 * others
 */
export function answersIn(output) {
  const answers = [...output.matchAll(/^answer 2\d\d (\d+)$/gm)];
  const refusals = [...output.matchAll(/^refused (.*)$/gm)].map(([, text = '']) => text);
  return { milliseconds: answers.map(([, nanoseconds]) => Number(nanoseconds) / 1e6), refusals };
}

/**
 * @param {string} name of a contender
 * @param {readonly string[]} refusals
 */
export function expectNone(name, [refusal]) {
  if (refusal !== undefined) throw new Failure(`${name} refused ${refusal}`);
}

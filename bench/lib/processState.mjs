/** What /proc tells of a running process. */
import fs from 'node:fs';

/**
 * @typedef {object} Mapping
 * @property {string} name file, [heap], or empty
 * @property {number} size bytes
 * @property {number} anonymous bytes of present pages that belong to no file, swapped ones included
 * @property {number} privateDirty bytes
 */

/** @typedef {{anonymous: number, privateDirty: number}} PrivateMemory in bytes */

/**
 * Private memory of a process without its guests' memory.
 *
 * @param {number} pid
 * @param {(mapping: Mapping) => boolean} isGuestMemory
 * @returns {PrivateMemory}
 */
export function privateMemory(pid, isGuestMemory) {
  const total = { anonymous: 0, privateDirty: 0 };
  for (const mapping of readMappings(pid)) {
    if (isGuestMemory(mapping)) continue;
    total.anonymous += mapping.anonymous;
    total.privateDirty += mapping.privateDirty;
  }
  return total;
}

/**
 * @param {number} pid
 * @returns {Mapping[]}
 */
export function readMappings(pid) {
  /** @type {Mapping[]} */
  const mappings = [];
  for (const line of fs.readFileSync(`/proc/${pid}/smaps`, 'utf8').split('\n')) {
    const head = /^([0-9a-f]+)-([0-9a-f]+) \S+ \S+ \S+ \d+\s*(.*)$/.exec(line);
    if (head) {
      const size = Number.parseInt(head[2] ?? '', 16) - Number.parseInt(head[1] ?? '', 16);
      mappings.push({ name: head[3] ?? '', size, anonymous: 0, privateDirty: 0 });
      continue;
    }
    const field = /^(\w+):\s+(\d+) kB$/.exec(line);
    const mapping = mappings.at(-1);
    if (!field || !mapping) continue;
    const bytes = Number(field[2]) * 1024;
    if (field[1] === 'Anonymous' || field[1] === 'Swap') mapping.anonymous += bytes;
    if (field[1] === 'Private_Dirty') mapping.privateDirty += bytes;
  }
  return mappings;
}

/**
 * Voluntary and involuntary context switches so far, by thread.
 *
 * @param {number} pid
 * @returns {Map<string, {name: string, switches: number}>} by thread id
 */
export function contextSwitches(pid) {
  const threads = new Map();
  for (const thread of fs.readdirSync(`/proc/${pid}/task`)) {
    let status;
    try {
      status = fs.readFileSync(`/proc/${pid}/task/${thread}/status`, 'utf8');
    } catch {
      continue; // It ended meanwhile.
    }
    let switches = 0;
    for (const match of status.matchAll(/^(?:non)?voluntary_ctxt_switches:\s+(\d+)$/gm)) {
      switches += Number(match[1]);
    }
    threads.set(thread, { name: /^Name:\s+(.*)$/m.exec(status)?.[1] ?? '', switches });
  }
  return threads;
}

/**
 * Context switches between two readings, by thread name; threads without any are left out.
 *
 * @param {ReturnType<typeof contextSwitches>} before
 * @param {ReturnType<typeof contextSwitches>} after
 * @returns {Record<string, number>}
 */
export function switchesBetween(before, after) {
  /** @type {Record<string, number>} */
  const result = {};
  for (const [thread, { name, switches }] of after) {
    const count = switches - (before.get(thread)?.switches ?? 0);
    if (count > 0) result[name] = (result[name] ?? 0) + count;
  }
  return result;
}

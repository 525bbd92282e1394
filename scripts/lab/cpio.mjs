/** Archives in the "newc" format that Linux unpacks as its initramfs. */

/**
 * @typedef {object} Entry
 * @property {string} name without a leading slash
 * @property {number} mode with the file type bits
 * @property {Uint8Array} [content] of a file, or the target of a symbolic link
 * @property {readonly [number, number]} [device] major and minor number of a device node
 */

export const DIRECTORY = 0o040755;
export const EXECUTABLE_FILE = 0o100755;
export const PLAIN_FILE = 0o100644;
export const SYMBOLIC_LINK = 0o120777;
export const CHARACTER_DEVICE = 0o020600;

/**
 * @param {readonly Entry[]} entries parents before their children
 * @returns {Buffer}
 */
export function cpioArchive(entries) {
  const trailer = { name: 'TRAILER!!!', mode: 0 };
  return Buffer.concat([...entries, trailer].flatMap((entry, index) => encode(entry, index + 1)));
}

/**
 * @param {Entry} entry
 * @param {number} inode
 * @returns {Uint8Array[]}
 */
function encode(entry, inode) {
  const name = Buffer.from(`${entry.name}\0`);
  const content = entry.content ?? new Uint8Array();
  const [major, minor] = entry.device ?? [0, 0];
  const numbers = [inode, entry.mode, 0, 0, 1, 0, content.length, 0, 0, major, minor, name.length, 0];
  const header = `070701${numbers.map((number) => number.toString(16).padStart(8, '0')).join('')}`;
  return [Buffer.from(header), name, padding(header.length + name.length), content, padding(content.length)];
}

/** @param {number} length */
function padding(length) {
  return new Uint8Array((4 - (length % 4)) % 4);
}

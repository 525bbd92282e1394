/**
 * Where an executable's code is in its file. Linux maps 2 MiB of a file at once if they are one page of the page cache,
 * and lie in the file as they do in memory: at the same distance from a multiple of 2 MiB. Linkers see to 4 KiB only;
 * of the executable, code then takes 200 page faults more at each start, and as many more entries of the TLB.
 */

const HUGE_PAGE = 2 << 20;
const PAGE = 4096;

// Executable and Linkable Format, 64 bits (System V ABI, chapters 4 and 5).
const MAGIC = 0x464c457f;
const CLASS_64 = 2;
const LITTLE_ENDIAN = 1;
const ET_EXEC = 2;
const PT_LOAD = 1;
const PF_X = 1;
const PF_W = 2;

/**
 * @typedef {object} Header a program header or a section header
 * @property {number} at where it is in the file
 * @property {number} offset of what it tells of
 */
/** @typedef {Header & { type: number, flags: number, address: number, size: number }} Segment */

/**
 * Moves the code, and what is behind it, to where Linux can map it in pieces of 2 MiB.
 *
 * @param {Buffer} file
 * @returns {Buffer} as it is if it is none that has its place in memory for good
 */
export function alignText(file) {
  if (!isExecutable(file)) return file;
  const segments = readSegments(file);
  const text = segments.find(({ type, flags }) => type === PT_LOAD && flags & PF_X);
  if (text === undefined) return file;
  const shift = (text.address - text.offset + HUGE_PAGE) % HUGE_PAGE;
  if (shift === 0) return file;
  const aligned = insertBefore(file, text.offset, shift);
  for (const { at, offset } of segments)
    if (offset >= text.offset) setOffset(aligned, at + 8, offset + shift);
  const table = Number(file.readBigUInt64LE(40));
  const moved = table >= text.offset ? table + shift : table;
  setOffset(aligned, 40, moved);
  for (const { at, offset } of readSections(file)) {
    if (offset >= text.offset) setOffset(aligned, at - table + moved + 24, offset + shift);
  }
  beginAtHugePage(aligned);
  return aligned;
}

/**
 * Where constants end in the piece of memory in which code begins, lets the code's segment have all of it: what begins
 * in the middle of one is not mapped as one.
 *
 * @param {Buffer} file
 */
function beginAtHugePage(file) {
  const segments = readSegments(file).filter(({ type }) => type === PT_LOAD);
  const index = segments.findIndex(({ flags }) => flags & PF_X);
  const [constants, text] = [segments[index - 1], segments[index]];
  if (constants === undefined || text === undefined) return;
  const start = text.address - (text.address % HUGE_PAGE);
  const distance = text.address - text.offset;
  if (constants.flags & PF_W || constants.address - constants.offset !== distance) return;
  if (constants.address >= start || constants.address + constants.size <= start) return;
  setSegment(file, constants.at, { ...constants, size: start - constants.address });
  const size = text.size + (text.address - start);
  setSegment(file, text.at, { offset: start - distance, address: start, size });
}

/**
 * @param {Buffer} file
 * @param {number} at of its header
 * @param {Pick<Segment, 'offset' | 'address' | 'size'>} segment as large in memory as in the file
 */
function setSegment(file, at, { offset, address, size }) {
  setOffset(file, at + 8, offset);
  for (const field of [16, 24]) setOffset(file, at + field, address);
  for (const field of [32, 40]) setOffset(file, at + field, size);
}

/** @param {Buffer} file */
function isExecutable(file) {
  return (
    file.length >= 64 &&
    file.readUInt32LE(0) === MAGIC &&
    file[4] === CLASS_64 &&
    file[5] === LITTLE_ENDIAN &&
    file.readUInt16LE(16) === ET_EXEC
  );
}

/** The page in which `offset` is has the end of what was before it as well, and stays there, too. */
function insertBefore(/** @type {Buffer} */ file, /** @type {number} */ offset, /** @type {number} */ count) {
  const page = offset - (offset % PAGE);
  const before = file.subarray(0, page + PAGE);
  return Buffer.concat([before, Buffer.alloc(count - PAGE), file.subarray(page)]);
}

/**
 * @param {Buffer} file
 * @returns {Segment[]}
 */
function readSegments(file) {
  const table = Number(file.readBigUInt64LE(32));
  const size = file.readUInt16LE(54);
  return Array.from({ length: file.readUInt16LE(56) }, (_, index) => {
    const at = table + index * size;
    return {
      at,
      type: file.readUInt32LE(at),
      flags: file.readUInt32LE(at + 4),
      offset: Number(file.readBigUInt64LE(at + 8)),
      address: Number(file.readBigUInt64LE(at + 16)),
      size: Number(file.readBigUInt64LE(at + 32)),
    };
  });
}

/**
 * @param {Buffer} file
 * @returns {Header[]}
 */
function readSections(file) {
  const table = Number(file.readBigUInt64LE(40));
  const size = file.readUInt16LE(58);
  return Array.from({ length: file.readUInt16LE(60) }, (_, index) => {
    const at = table + index * size;
    return { at, offset: Number(file.readBigUInt64LE(at + 24)) };
  });
}

/** @param {Buffer} file @param {number} at @param {number} offset */
function setOffset(file, at, offset) {
  file.writeBigUInt64LE(BigInt(offset), at);
}

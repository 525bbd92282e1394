/** LZ4 as the kernel's own build uses it: the legacy frame (magic 0x184C2102, blocks of up to 8 MiB). */

const LEGACY_MAGIC = 0x184c2102;
const MAX_BLOCK = 8 << 20;

/**
 * @param {Uint8Array} source one block
 * @param {Uint8Array} target
 * @param {number} start where the block's bytes go
 * @returns {number} where they end
 */
function decodeBlock(source, target, start) {
  let from = 0;
  let to = start;
  const byte = () => {
    const value = source[from++];
    if (value === undefined) throw new Error('the LZ4 block is cut short');
    return value;
  };
  const length = (/** @type {number} */ nibble) => {
    let total = nibble;
    if (nibble === 15) {
      for (let more = 255; more === 255; total += more) more = byte();
    }
    return total;
  };
  while (from < source.length) {
    const token = byte();
    const literals = length(token >> 4);
    target.set(source.subarray(from, from + literals), to);
    from += literals;
    to += literals;
    if (from >= source.length) break;
    const offset = byte() | (byte() << 8);
    const match = length(token & 15) + 4;
    if (offset === 0 || offset > to - start) throw new Error('the LZ4 block refers to bytes before it');
    // Byte by byte when the copy overlaps itself: that is how LZ4 repeats a pattern.
    if (offset >= match) target.copyWithin(to, to - offset, to - offset + match);
    else
      for (let at = 0; at < match; at++) target[to + at] = /** @type {number} */ (target[to + at - offset]);
    to += match;
  }
  return to;
}

/**
 * @param {Buffer} frame
 * @param {number} size of the content in bytes
 * @returns {Uint8Array}
 */
export function decodeLegacyFrame(frame, size) {
  if (frame.readUInt32LE(0) !== LEGACY_MAGIC) throw new Error('not an LZ4 legacy frame');
  const target = new Uint8Array(size + MAX_BLOCK);
  let to = 0;
  for (let at = 4; to < size; ) {
    const length = frame.readUInt32LE(at);
    to = decodeBlock(frame.subarray(at + 4, at + 4 + length), target, to);
    at += 4 + length;
  }
  return target.subarray(0, size);
}

/** The kernel's command line as bytes. */
import { PlatformError } from '../platformError.ts';
import { COMMAND_LINE_CAPACITY } from './memoryMap.ts';

/**
 * The text in UTF-8 with its terminating NUL.
 * @param max longest line that the kernel takes, in bytes without the NUL: it would silently cut a longer one.
 * @throws PlatformError `ERR_TSVMM_COMMAND_LINE`
 */
export function encodeCommandLine(text: string, max: number): Uint8Array {
  if (text.includes('\0')) {
    throw new PlatformError('ERR_TSVMM_COMMAND_LINE', 'The kernel command line contains a NUL character');
  }
  const bytes = encodeWithNul(text);
  const limit = Math.min(max, COMMAND_LINE_CAPACITY - 1);
  if (bytes.length - 1 > limit) {
    throw new PlatformError(
      'ERR_TSVMM_COMMAND_LINE',
      `The kernel command line of ${bytes.length - 1} bytes is longer than the ${limit} bytes that this kernel takes`,
    );
  }
  return bytes;
}

/**
 * Plain ASCII, as nearly all are, is copied here: the runtime's encoder, which is loaded with any function that names
 * it, takes longer.
 */
function encodeWithNul(text: string): Uint8Array {
  const bytes = new Uint8Array(text.length + 1);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 0x7f) return encodeUtf8(`${text}\0`);
    bytes[i] = code;
  }
  return bytes;
}

function encodeUtf8(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

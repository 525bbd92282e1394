/** The FACS (ACPI 6.5 §5.2.10), which has no checksum. There is no sleep state to wake from by its vectors. */

import type { TableArea } from '../../acpi/sdt.ts';
import { setAscii } from '../../bytes.ts';

const FACS_SIZE = 64;
const FACS_VERSION = 2;

export function writeFacs({ bytes, view }: TableArea, start: number): void {
  setAscii(bytes, start, 'FACS');
  view.setUint32(start + 4, FACS_SIZE, true);
  view.setUint8(start + 32, FACS_VERSION);
}

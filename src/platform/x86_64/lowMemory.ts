/** Small things that boot protocols and operating systems expect at fixed places in the first page. */
import type { LoadItem } from '../../native.ts';
import { bytesOfWords } from '../bytes.ts';
import { ACPI_ADDRESS, EBDA_POINTER_ADDRESS, GDT_ADDRESS } from './memoryMap.ts';

/** High and low words of descriptors (SDM vol. 3 §3.4.5): flat, 32 bits, ring 0, accessed. */
const FLAT_LOW = 0x0000_ffff;
const CODE_HIGH = 0x00cf_9b00;
const DATA_HIGH = 0x00cf_9300;
const TSS_LOW = 0x0000_0067;
const TSS_HIGH = 0x0000_8b00;

/** Bytes of the GDT less one: five descriptors of 8 bytes. */
export const GDT_LIMIT = 5 * 8 - 1;

/** The descriptors behind the selectors of vCPU 0: Linux wants code at 0x10 and data at 0x18, the task is at 0x20. */
function buildGdt(): Uint8Array {
  return bytesOfWords([0, 0, 0, 0, FLAT_LOW, CODE_HIGH, FLAT_LOW, DATA_HIGH, TSS_LOW, TSS_HIGH]);
}

/** The GDT, and the EBDA's segment in the BIOS data area: guests scan from there for the RSDP. */
export function lowMemoryItems(): LoadItem[] {
  const ebdaSegment = ACPI_ADDRESS >> 4;
  return [
    { address: GDT_ADDRESS, bytes: buildGdt() },
    { address: EBDA_POINTER_ADDRESS, bytes: new Uint8Array([ebdaSegment & 0xff, ebdaSegment >> 8]) },
  ];
}

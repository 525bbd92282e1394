/** SMBIOS 3.0 tables (DMTF DSP0134): manufacturer, product and identity of the machine. */
import type { PlatformConfig } from '../config/vmConfig.ts';
import { checksum, setAscii, setU64, viewOf } from './bytes.ts';
import { PlatformError } from './platformError.ts';

const ENTRY_SIZE = 24;
const STRUCTURES_OFFSET = 32;

const TYPE_FIRMWARE = 0;
const TYPE_SYSTEM = 1;
const TYPE_CHASSIS = 3;
const TYPE_OEM_STRINGS = 11;
const TYPE_END = 127;

/** Lengths of the formatted areas, header included (§7). */
const FIRMWARE_LENGTH = 0x18;
const SYSTEM_LENGTH = 0x1b;
const CHASSIS_LENGTH = 0x15;
const OEM_STRINGS_LENGTH = 0x05;
const END_LENGTH = 0x04;

const DEFAULT_MANUFACTURER = 'tsvmm';
const DEFAULT_PRODUCT = 'tsvmm';
const FIRMWARE_VENDOR = 'tsvmm';
const FIRMWARE_VERSION = '0';

/** Bit 3 of the first: BIOS characteristics are not supported. Bit 4 of the last byte: a virtual machine (§7.1.2). */
const NO_CHARACTERISTICS = 1 << 3;
const VIRTUAL_MACHINE = 1 << 4;
const WAKE_UP_POWER_SWITCH = 6;
const CHASSIS_OTHER = 1;
const STATE_SAFE = 3;
const SECURITY_NONE = 3;
const OEM_STRINGS_MAX = 255;

/**
 * Builds the entry point and, 32 bytes on, the structures.
 * @param address guest address of the block, at a multiple of 16.
 * @param capacity bytes that it may take.
 * @throws PlatformError `ERR_TSVMM_SMBIOS` for strings that do not fit, and for a malformed UUID.
 */
export function buildSmbios(
  platform: PlatformConfig | undefined,
  address: number,
  capacity: number,
): Uint8Array {
  const writer = new StructureWriter(platform, capacity);
  writeFirmware(writer);
  writeSystem(writer, platform);
  if (platform?.chassis_asset_tag !== undefined) {
    writeChassis(writer, platform.chassis_asset_tag);
  }
  if (platform?.oem_strings !== undefined && platform.oem_strings.length > 0) {
    writeOemStrings(writer, platform.oem_strings);
  }
  writer.start(TYPE_END, END_LENGTH);
  writer.end();
  const block = writer.finish();
  writeEntryPoint(block, address);
  return block;
}

/** The 64-bit entry point `_SM3_` (§5.2.2). */
function writeEntryPoint(block: Uint8Array, address: number): void {
  const view = viewOf(block);
  setAscii(block, 0, '_SM3_');
  view.setUint8(6, ENTRY_SIZE);
  view.setUint8(7, 3);
  view.setUint8(10, 1);
  view.setUint32(12, block.length - STRUCTURES_OFFSET, true);
  setU64(view, 16, address + STRUCTURES_OFFSET);
  block[5] = checksum(block.subarray(0, ENTRY_SIZE));
}

function writeFirmware(writer: StructureWriter): void {
  const view = writer.start(TYPE_FIRMWARE, FIRMWARE_LENGTH);
  view.setUint8(4, writer.string(FIRMWARE_VENDOR));
  view.setUint8(5, writer.string(FIRMWARE_VERSION));
  view.setUint8(10, NO_CHARACTERISTICS);
  view.setUint8(19, VIRTUAL_MACHINE);
  writer.end();
}

function writeSystem(writer: StructureWriter, platform: PlatformConfig | undefined): void {
  const view = writer.start(TYPE_SYSTEM, SYSTEM_LENGTH);
  view.setUint8(4, writer.string(platform?.system_manufacturer ?? DEFAULT_MANUFACTURER));
  view.setUint8(5, writer.string(platform?.system_product_name ?? DEFAULT_PRODUCT));
  view.setUint8(6, writer.string(platform?.system_version));
  view.setUint8(7, writer.string(platform?.system_serial_number));
  if (platform?.system_uuid !== undefined) {
    setUuid(view, 8, platform.system_uuid);
  }
  view.setUint8(24, WAKE_UP_POWER_SWITCH);
  view.setUint8(25, writer.string(platform?.system_sku_number));
  view.setUint8(26, writer.string(platform?.system_family));
  writer.end();
}

function writeChassis(writer: StructureWriter, assetTag: string): void {
  const view = writer.start(TYPE_CHASSIS, CHASSIS_LENGTH);
  view.setUint8(4, writer.string(DEFAULT_MANUFACTURER));
  view.setUint8(5, CHASSIS_OTHER);
  view.setUint8(8, writer.string(assetTag));
  view.setUint8(9, STATE_SAFE);
  view.setUint8(10, STATE_SAFE);
  view.setUint8(11, STATE_SAFE);
  view.setUint8(12, SECURITY_NONE);
  writer.end();
}

function writeOemStrings(writer: StructureWriter, strings: readonly string[]): void {
  if (strings.length > OEM_STRINGS_MAX) {
    throw new PlatformError(
      'ERR_TSVMM_SMBIOS',
      `There are ${strings.length} SMBIOS OEM strings, and at most ${OEM_STRINGS_MAX} are possible`,
    );
  }
  const view = writer.start(TYPE_OEM_STRINGS, OEM_STRINGS_LENGTH);
  view.setUint8(4, strings.length);
  for (const text of strings) {
    // A string without characters would end the list: the specification has no empty ones.
    writer.string(text === '' ? ' ' : text);
  }
  writer.end();
}

const UUID_LENGTH = 36;
/** Where the digits of each byte are, in SMBIOS' order: the first three fields are little-endian (§7.2.1). */
const UUID_DIGITS = [6, 4, 2, 0, 11, 9, 16, 14, 19, 21, 24, 26, 28, 30, 32, 34];
const UUID_DASHES = [8, 13, 18, 23];

function setUuid(view: DataView, offset: number, uuid: string): void {
  let valid = uuid.length === UUID_LENGTH;
  for (const at of UUID_DASHES) {
    valid = valid && uuid[at] === '-';
  }
  for (let i = 0; i < UUID_DIGITS.length; i++) {
    const at = UUID_DIGITS[i] as number;
    const high = hexDigit(uuid.charCodeAt(at));
    const low = hexDigit(uuid.charCodeAt(at + 1));
    valid = valid && high >= 0 && low >= 0;
    view.setUint8(offset + i, (high << 4) | low);
  }
  if (!valid) {
    throw new PlatformError(
      'ERR_TSVMM_SMBIOS',
      `The system UUID "${uuid}" is not 8-4-4-4-12 hexadecimal digits`,
    );
  }
}

/** The digit's value, -1 if it is none. */
function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) {
    return code - 0x30;
  }
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

/** Writes structures: a formatted area, then the strings that it numbers, then a NUL (§6.1.3). */
class StructureWriter {
  readonly #bytes: Uint8Array;
  readonly #encoder = new TextEncoder();
  #position = STRUCTURES_OFFSET;
  #handle = 0;
  #strings = 0;

  constructor(platform: PlatformConfig | undefined, capacity: number) {
    this.#bytes = new Uint8Array(Math.min(capacity, sizeBound(platform)));
  }

  /** Starts a structure and returns its formatted area, whose header is filled. */
  start(type: number, length: number): DataView {
    this.#reserve(length);
    const view = new DataView(this.#bytes.buffer, this.#position, length);
    view.setUint8(0, type);
    view.setUint8(1, length);
    view.setUint16(2, this.#handle, true);
    this.#handle++;
    this.#strings = 0;
    this.#position += length;
    return view;
  }

  /** Adds a string and returns its number, 0 if there is none. */
  string(text: string | undefined): number {
    if (text === undefined || text === '') {
      return 0;
    }
    if (text.includes('\0')) {
      throw new PlatformError('ERR_TSVMM_SMBIOS', 'An SMBIOS string contains a NUL character');
    }
    const { read, written } = this.#encoder.encodeInto(text, this.#bytes.subarray(this.#position));
    if (read !== text.length) {
      throw tooLong();
    }
    this.#position += written;
    this.#reserve(1);
    this.#position++;
    this.#strings++;
    return this.#strings;
  }

  /** Ends the structure: one NUL after its strings, two if it has none. */
  end(): void {
    const terminator = this.#strings === 0 ? 2 : 1;
    this.#reserve(terminator);
    this.#position += terminator;
  }

  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#position);
  }

  #reserve(size: number): void {
    if (this.#position + size > this.#bytes.length) {
      throw tooLong();
    }
  }
}

/** At least the bytes that the configuration's strings and all structures take. */
function sizeBound(platform: PlatformConfig | undefined): number {
  const withoutConfiguration = 512;
  if (platform === undefined) {
    return withoutConfiguration;
  }
  // UTF-8 takes at most three bytes for each UTF-16 unit.
  let units = platform.oem_strings?.reduce((sum, text) => sum + text.length + 1, 0) ?? 0;
  for (const value of Object.values(platform)) {
    units += typeof value === 'string' ? value.length + 1 : 0;
  }
  return withoutConfiguration + 3 * units;
}

function tooLong(): PlatformError {
  return new PlatformError('ERR_TSVMM_SMBIOS', 'The SMBIOS strings are too long for the space below 1 MiB');
}

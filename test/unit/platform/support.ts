import { decode } from '../../../src/config/decode.ts';
import { type VmConfig, type VmConfigInput, vmConfig } from '../../../src/config/vmConfig.ts';
import type { BootSpec, HostInfo } from '../../../src/native.ts';
import type { BootResources } from '../../../src/platform/plan.ts';
import { type ImageFile, openImage } from '../../../src/platform/x86_64/imageFile.ts';
import { type MemoryMap, planMemory } from '../../../src/platform/x86_64/memoryMap.ts';

export const MIB = 1024 * 1024;
export const GIB = 1024 * MIB;

export function configOf(input: VmConfigInput = {}): VmConfig {
  return decode(vmConfig, input);
}

/** The map of plain memory. */
export function plainMap(size: number, physBits = 46, pageSize = 4096): MemoryMap {
  return planMemory([{ size, pageSize, hotplugSize: 0 }], physBits);
}

/** A CPUID entry: leaf, index, eax, ebx, ecx, edx. */
export type Leaf = readonly [number, number, number, number, number, number];

const ENTRY_WORDS = 10;

export function packCpuid(leaves: readonly Leaf[]): Uint8Array {
  const words = new Uint32Array(leaves.length * ENTRY_WORDS);
  leaves.forEach(([leaf, index, ...registers], i) => {
    words.set([leaf, index, 0, ...registers], i * ENTRY_WORDS);
  });
  return new Uint8Array(words.buffer);
}

export interface CpuidEntry {
  readonly flags: number;
  readonly eax: number;
  readonly ebx: number;
  readonly ecx: number;
  readonly edx: number;
}

/** Entries by `leaf` or `leaf.index`, in hexadecimal. Throws if one comes twice. */
export function unpackCpuid(bytes: Uint8Array): Map<string, CpuidEntry> {
  const words = new Uint32Array(bytes.slice().buffer);
  const entries = new Map<string, CpuidEntry>();
  for (let at = 0; at < words.length; at += ENTRY_WORDS) {
    const [leaf = 0, index = 0, flags = 0, eax = 0, ebx = 0, ecx = 0, edx = 0, ...padding] = words.subarray(
      at,
      at + ENTRY_WORDS,
    );
    const key = flags === 0 && index === 0 ? leaf.toString(16) : `${leaf.toString(16)}.${index.toString(16)}`;
    if (entries.has(key)) {
      throw new Error(`leaf ${key} comes twice`);
    }
    if (padding.some((word) => word !== 0)) {
      throw new Error(`the padding of leaf ${key} is not zero`);
    }
    entries.set(key, { flags, eax, ebx, ecx, edx });
  }
  return entries;
}

export function hostOf(overrides: Partial<HostInfo> = {}): HostInfo {
  return {
    apiVersion: 12,
    supportedCpuid: packCpuid([[0, 0, 0x1f, 0x756e_6547, 0x6c65_746e, 0x4965_6e69]]),
    physBits: 48,
    maxVcpus: 1024,
    tscKhz: 2_500_000,
    hardwareVirtualization: true,
    ...overrides,
  };
}

/** An image in memory, as if behind a descriptor. */
export function imageOf(bytes: Uint8Array): ImageFile {
  return openImage(0, bytes.length, readAtOf(bytes));
}

function readAtOf(bytes: Uint8Array): (fd: number, offset: number, length: number) => Uint8Array {
  return (_fd, offset, length) => bytes.slice(offset, offset + length);
}

export function resourcesOf(kernel: Uint8Array, overrides: Partial<BootResources> = {}): BootResources {
  return {
    kernel: { fd: 10, size: kernel.length },
    readAt: readAtOf(kernel),
    devices: openedDevices(),
    serial: { kind: 'null' },
    vmGeneration: new Uint8Array(16).fill(0x5a),
    ...overrides,
  };
}

/** What is opened for devices, by the names of their kinds; with a console and a source of random bytes. */
export function openedDevices(devices: BootResources['devices'] = {}): BootResources['devices'] {
  return { console: [{ backend: { kind: 'null' }, columns: 80, rows: 25 }], rng: [11], ...devices };
}

/** The bytes that are loaded at `address`. */
export function loadedBytes(boot: BootSpec, address: number): Uint8Array {
  for (const item of boot.load) {
    if (item.address === address && 'bytes' in item) {
      return item.bytes;
    }
  }
  throw new Error(`nothing is loaded at 0x${address.toString(16)}`);
}

export interface ElfOptions {
  readonly bits?: 32 | 64;
  readonly machine?: number;
  readonly entry?: number;
  readonly loadAddress?: number;
  readonly fileSize?: number;
  readonly memorySize?: number;
  /** Bytes of the note's description. */
  readonly entrySize?: 4 | 8;
  readonly noteAlign?: 4 | 8;
  readonly noteType?: number;
}

/** Where `makeElf` puts things. */
export const ELF_PROGRAM_HEADERS = 64;
export const ELF_NOTE = 192;
export const ELF_CODE = 256;

/** An ELF file with a note segment and one segment to load. */
export function makeElf(options: ElfOptions = {}): Uint8Array {
  const { bits = 64, machine = 62, loadAddress = MIB, fileSize = 64, memorySize = 4096 } = options;
  const { entry = loadAddress, entrySize = 8, noteAlign = 4, noteType = 18 } = options;
  const bytes = new Uint8Array(ELF_CODE + fileSize);
  const view = new DataView(bytes.buffer);
  const is64 = bits === 64;
  bytes.set([0x7f, 0x45, 0x4c, 0x46, is64 ? 2 : 1, 1, 1]);
  view.setUint16(16, 2, true);
  view.setUint16(18, machine, true);
  view.setUint32(is64 ? 32 : 28, ELF_PROGRAM_HEADERS, true);
  view.setUint16(is64 ? 54 : 42, is64 ? 56 : 32, true);
  view.setUint16(is64 ? 56 : 44, 2, true);
  const noteSize = 16 + (noteAlign === 8 ? 8 : entrySize);
  programHeader(view, is64, 0, [4, ELF_NOTE, 0, noteSize, noteSize, noteAlign]);
  programHeader(view, is64, 1, [1, ELF_CODE, loadAddress, fileSize, memorySize, 4096]);
  view.setUint32(ELF_NOTE, 4, true);
  view.setUint32(ELF_NOTE + 4, entrySize, true);
  view.setUint32(ELF_NOTE + 8, noteType, true);
  bytes.set([0x58, 0x65, 0x6e, 0], ELF_NOTE + 12);
  view.setUint32(ELF_NOTE + 16, entry, true);
  return bytes;
}

type ProgramHeaderFields = readonly [
  type: number,
  offset: number,
  address: number,
  fileSize: number,
  memorySize: number,
  align: number,
];

export function programHeader(
  view: DataView,
  is64: boolean,
  index: number,
  [type, offset, address, fileSize, memorySize, align]: ProgramHeaderFields,
): void {
  const at = ELF_PROGRAM_HEADERS + index * (is64 ? 56 : 32);
  view.setUint32(at, type, true);
  if (is64) {
    const fields = [offset, 0, address, fileSize, memorySize, align];
    fields.forEach((value, i) => {
      view.setBigUint64(at + 8 + 8 * i, BigInt(value), true);
    });
  } else {
    const fields = [offset, 0, address, fileSize, memorySize, 0, align];
    fields.forEach((value, i) => {
      view.setUint32(at + 4 + 4 * i, value, true);
    });
  }
}

/** A bzImage of protocol 2.15 with one setup sector and `codeSize` bytes of code. */
export function makeBzImage(codeSize = 4096): Uint8Array {
  const bytes = new Uint8Array(1024 + codeSize);
  const view = new DataView(bytes.buffer);
  view.setUint8(0x1f1, 1);
  view.setUint16(0x1fe, 0xaa55, true);
  view.setUint8(0x200, 0xeb);
  view.setUint8(0x201, 0x6a);
  view.setUint32(0x202, 0x5372_6448, true);
  view.setUint16(0x206, 0x020f, true);
  view.setUint8(0x211, 1);
  view.setUint32(0x214, MIB, true);
  view.setUint32(0x22c, 0x7fff_ffff, true);
  view.setUint32(0x230, 2 * MIB, true);
  view.setUint8(0x234, 1);
  view.setUint16(0x236, 0x7f, true);
  view.setUint32(0x238, 2047, true);
  view.setUint32(0x258, 16 * MIB, true);
  view.setUint32(0x260, 32 * MIB, true);
  return bytes;
}

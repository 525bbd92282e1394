/** Resource descriptors (ACPI 6.5 §6.4), written inside `AmlWriter.resourceTemplate`. */
import type { AmlWriter } from './aml.ts';

const TYPE_MEMORY = 0;
const TYPE_IO = 1;
const TYPE_BUS_NUMBER = 2;

/** General flags (§6.4.3.5.5). */
const MIN_FIXED = 0x04;
const MAX_FIXED = 0x08;

const MEMORY_READ_WRITE = 0x01;
const MEMORY_CACHEABLE = 0x02;
const IO_ENTIRE_RANGE = 0x03;
const BUS_NUMBER_RANGE = 0;

/** A fixed memory range below 4 GiB, read-write (§6.4.3.4). */
export function memory32Fixed(aml: AmlWriter, address: number, size: number): void {
  aml.byte(0x86).word(9).byte(1).dword(address).dword(size);
}

/** `size` I/O ports from `port` on, all 16 address bits decoded (§6.4.2.5). */
export function ioPorts(aml: AmlWriter, port: number, size: number): void {
  aml.byte(0x47).byte(1).word(port).word(port).byte(1).byte(size);
}

/** Buses `first` to `last`, handed down (§6.4.3.5.3). */
export function busRange(aml: AmlWriter, first: number, last: number): void {
  wordSpace(aml, TYPE_BUS_NUMBER, BUS_NUMBER_RANGE, first, last);
}

/** I/O ports `first` to `last`, handed down. */
export function ioRange(aml: AmlWriter, first: number, last: number): void {
  wordSpace(aml, TYPE_IO, IO_ENTIRE_RANGE, first, last);
}

function wordSpace(aml: AmlWriter, type: number, typeFlags: number, first: number, last: number): void {
  aml.byte(0x88).word(13).byte(type);
  aml.byte(MIN_FIXED | MAX_FIXED).byte(typeFlags);
  aml
    .word(0)
    .word(first)
    .word(last)
    .word(0)
    .word(last - first + 1);
}

/** Non-cacheable memory below 4 GiB, handed down (§6.4.3.5.2). */
export function memoryWindow32(aml: AmlWriter, start: number, size: number): void {
  aml.byte(0x87).word(23).byte(TYPE_MEMORY);
  aml.byte(MIN_FIXED | MAX_FIXED).byte(MEMORY_READ_WRITE);
  aml
    .dword(0)
    .dword(start)
    .dword(start + size - 1)
    .dword(0)
    .dword(size);
}

/** Non-cacheable memory anywhere, handed down (§6.4.3.5.1). */
export function memoryWindow64(aml: AmlWriter, start: number, size: number): void {
  aml.byte(0x8a).word(43).byte(TYPE_MEMORY);
  aml.byte(MIN_FIXED | MAX_FIXED).byte(MEMORY_READ_WRITE);
  aml
    .qword(0)
    .qword(start)
    .qword(start + size - 1)
    .qword(0)
    .qword(size);
}

/** Cacheable memory anywhere; the method that returns the descriptor fills in its place. */
export function cachedMemory64(aml: AmlWriter): void {
  aml.byte(0x8a).word(43).byte(TYPE_MEMORY);
  aml.byte(MIN_FIXED | MAX_FIXED).byte(MEMORY_READ_WRITE | MEMORY_CACHEABLE);
  aml.qword(0).qword(0).qword(0).qword(0).qword(0);
}

/** An edge-triggered, active-high, exclusive interrupt (§6.4.3.6). */
export function edgeInterrupt(aml: AmlWriter, gsi: number): void {
  const consumerEdge = 0x03;
  aml.byte(0x89).word(6).byte(consumerEdge).byte(1).dword(gsi);
}

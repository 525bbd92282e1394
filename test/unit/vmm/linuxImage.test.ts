import { describe, expect, it } from 'vitest';
import type { NativeAddon } from '../../../src/native.ts';
import { isLinuxImage } from '../../../src/vmm/linuxImage.ts';
import { ELF_NOTE, ELF_PROGRAM_HEADERS, makeElf, readAtOf } from '../platform/support.ts';

function isLinux(bytes: Uint8Array): boolean {
  return isLinuxImage({ readAt: readAtOf(bytes) } as NativeAddon, 3);
}

const PROGRAM_HEADER = 56;
const PT_NOTE = 4;

/** An ELF file at least as long as a boot sector, whose note segment holds `notes`. */
function elfWithNotes(notes: Uint8Array): Uint8Array {
  const image = new Uint8Array(4096);
  image.set(makeElf());
  const view = new DataView(image.buffer);
  for (let i = 0; i < view.getUint16(56, true); i++) {
    const at = ELF_PROGRAM_HEADERS + i * PROGRAM_HEADER;
    if (view.getUint32(at, true) !== PT_NOTE) continue;
    view.setBigUint64(at + 8, 2048n, true);
    view.setBigUint64(at + 32, BigInt(notes.length), true);
  }
  image.set(notes, 2048);
  return image;
}

function note(owner: string, descriptor: number): Uint8Array {
  const name = Buffer.from(`${owner}\0`);
  const bytes = new Uint8Array(12 + Math.ceil(name.length / 4) * 4 + Math.ceil(descriptor / 4) * 4);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, name.length, true);
  view.setUint32(4, descriptor, true);
  bytes.set(name, 12);
  return bytes;
}

describe('Linux is told', () => {
  it('by the header of a bzImage', () => {
    const image = Buffer.alloc(1024);
    expect(isLinux(image)).toBe(false);
    image.write('HdrS', 0x202);
    expect(isLinux(image)).toBe(true);
    expect(isLinux(image.subarray(0, 0x206))).toBe(true);
    expect(isLinux(image.subarray(0, 0x205))).toBe(false);
  });

  it('by a note of its own among others', () => {
    const xen = note('Xen', 8);
    expect(isLinux(elfWithNotes(Buffer.concat([xen, note('Linux', 5), xen])))).toBe(true);
    expect(isLinux(elfWithNotes(Buffer.concat([xen, note('Linus', 5), note('GNU', 20)])))).toBe(false);
  });

  it('not by our own payloads', () => {
    expect(isLinux(makeElf())).toBe(false);
    expect(isLinux(new Uint8Array())).toBe(false);
  });

  it('without believing a size', () => {
    const huge = note('Xen', 0);
    new DataView(huge.buffer).setUint32(4, 0xffff_fffc, true);
    expect(isLinux(elfWithNotes(Buffer.concat([huge, note('Linux', 1)])))).toBe(false);
    const image = elfWithNotes(note('Linux', 1));
    const view = new DataView(image.buffer);
    view.setBigUint64(32, 0xffff_ffff_ffff_ffffn, true);
    expect(isLinux(image)).toBe(false);
    view.setBigUint64(32, 4000n, true);
    expect(isLinux(image)).toBe(false);
    view.setUint16(54, 0, true);
    expect(isLinux(image)).toBe(false);
    expect(ELF_NOTE).toBeLessThan(2048);
  });
});

/** Code that Linux can map in pieces of 2 MiB. */
import { describe, expect, it } from 'vitest';
import { alignText } from '../../../scripts/lib/alignText.mjs';

const HUGE_PAGE = 2 << 20;
const PAGE = 4096;
const PT_LOAD = 1;
const [R, X] = [4, 5];
const TEXT_ADDRESS = 0x1a4_0d00;

interface Segment {
  readonly offset: number;
  readonly address: number;
  readonly flags: number;
  readonly bytes: string;
  /** Of `bytes`, unless told. */
  readonly size?: number;
}

const constants: Segment = { offset: 0x1000, address: 0x20_1000, flags: R, bytes: 'constants' };
/** In the page in which the constants end. */
const text: Segment = { offset: 0x1d00, address: TEXT_ADDRESS, flags: X, bytes: 'text' };
const data: Segment = { offset: 0x3000, address: 0x684_b000, flags: R, bytes: 'data' };

/** An executable of these, with a section for each and the table of sections at the end. */
function executable(segments: readonly Segment[], type = 2): Buffer {
  const sections = Math.max(...segments.map(({ offset }) => offset)) + 0x1000;
  const file = Buffer.alloc(sections + 64 * segments.length);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  file.writeUInt16LE(type, 16);
  file.writeBigUInt64LE(64n, 32);
  file.writeBigUInt64LE(BigInt(sections), 40);
  file.writeUInt16LE(56, 54);
  file.writeUInt16LE(segments.length, 56);
  file.writeUInt16LE(64, 58);
  file.writeUInt16LE(segments.length, 60);
  segments.forEach(({ offset, address, flags, bytes, size = bytes.length }, index) => {
    const at = 64 + 56 * index;
    file.writeUInt32LE(PT_LOAD, at);
    file.writeUInt32LE(flags, at + 4);
    file.writeBigUInt64LE(BigInt(offset), at + 8);
    file.writeBigUInt64LE(BigInt(address), at + 16);
    file.writeBigUInt64LE(BigInt(size), at + 32);
    file.writeBigUInt64LE(BigInt(offset), sections + 64 * index + 24);
    file.write(bytes, offset);
  });
  return file;
}

const fieldOf = (at: number) => (file: Buffer, index: number) =>
  Number(file.readBigUInt64LE(64 + 56 * index + at));
const [offsetOf, addressOf, sizeOf] = [fieldOf(8), fieldOf(16), fieldOf(32)];

describe('code is moved', () => {
  const moved = alignText(executable([constants, text, data]));

  it('to the same place between two multiples of 2 MiB as in memory', () => {
    expect(offsetOf(moved, 1) % HUGE_PAGE).toBe(TEXT_ADDRESS % HUGE_PAGE);
  });

  it('with what is behind it, and without what is before it', () => {
    const shift = offsetOf(moved, 1) - text.offset;
    expect(offsetOf(moved, 0)).toBe(constants.offset);
    expect(offsetOf(moved, 2)).toBe(data.offset + shift);
    [constants, text, data].forEach(({ address, bytes }, index) => {
      const offset = offsetOf(moved, index);
      expect(moved.toString('latin1', offset, offset + bytes.length)).toBe(bytes);
      expect(offset % PAGE).toBe(address % PAGE);
    });
  });

  it('in the table of sections, too', () => {
    const sections = Number(moved.readBigUInt64LE(40));
    [0, 1, 2].forEach((index) => {
      expect(Number(moved.readBigUInt64LE(sections + 64 * index + 24))).toBe(offsetOf(moved, index));
    });
  });

  it('once', () => {
    expect(alignText(moved)).toBe(moved);
  });
});

describe('a piece of 2 MiB in which constants end and code begins', () => {
  const long = { offset: 0x1000, address: 0x20_1000, flags: R, bytes: 'constants', size: 0x20_0800 };
  const behind = { offset: 0x20_1d00, address: 0x44_1d00, flags: X, bytes: 'text' };

  it('is the code’s', () => {
    const moved = alignText(executable([long, behind]));
    expect([offsetOf(moved, 1), addressOf(moved, 1)]).toEqual([0x20_0000, 0x40_0000]);
    expect(sizeOf(moved, 1)).toBe(0x4_1d00 + behind.bytes.length);
    expect(sizeOf(moved, 0)).toBe(0x40_0000 - long.address);
    expect(moved.toString('latin1', 0x24_1d00, 0x24_1d04)).toBe('text');
  });

  it.each([
    ['what is before can be written', { ...long, flags: R | 2 }],
    ['what is before ends earlier', { ...long, size: 0x1000 }],
    ['what is before lies elsewhere', { ...long, address: 0x10_1000 }],
  ])('is left where %s', (_name, before) => {
    const moved = alignText(executable([before, behind]));
    expect([addressOf(moved, 0), sizeOf(moved, 0)]).toEqual([before.address, before.size]);
    expect(addressOf(moved, 1)).toBe(behind.address);
  });
});

describe('nothing is done to', () => {
  it.each([
    ['a program that may be anywhere in memory', executable([constants, text], 3)],
    ['an executable without code', executable([constants, data])],
    ['what is no executable', Buffer.from('#!/bin/sh\n')],
    ['nothing', Buffer.alloc(0)],
  ])('%s', (_name, file) => {
    expect(alignText(file)).toBe(file);
  });
});

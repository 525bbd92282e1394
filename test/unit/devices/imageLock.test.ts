import { describe, expect, it } from 'vitest';
import { lockToRead, lockToWrite } from '../../../src/devices/disk/imageLock.ts';

interface Lock {
  readonly start: number;
  readonly end: number;
  readonly exclusive: boolean;
  readonly owner: number;
}

/** The kernel's locks of one file, by descriptor. */
class LockedFile {
  readonly locks: Lock[] = [];

  readonly native = {
    imageSize: () => 64,
    lockRange: (owner: number, exclusive: boolean, start: number, length: number) => {
      const end = length === 0 ? Number.POSITIVE_INFINITY : start + length;
      if (this.#others(owner, start, end).some((lock) => lock.exclusive || exclusive)) return false;
      this.locks.push({ owner, exclusive, start, end });
      return true;
    },
    lockHolder: (owner: number, start: number, length: number) =>
      this.#others(owner, start, start + length)[0] ?? null,
  };

  #others(owner: number, start: number, end: number): Lock[] {
    return this.locks.filter((lock) => lock.owner !== owner && lock.start < end && start < lock.end);
  }

  /** As QEMU does: permissions that are used, and those that are left to others, by their bits. */
  qemu(owner: number, used: number, shared: number): void {
    for (let bit = 0; bit < 4; bit++) {
      if (used & (1 << bit)) this.native.lockRange(owner, false, 100 + bit, 1);
      if (!(shared & (1 << bit))) this.native.lockRange(owner, false, 200 + bit, 1);
    }
  }
}

const QEMU = 9;

describe('locks of images', () => {
  it('let many read', () => {
    const { native } = new LockedFile();
    expect(lockToRead(native, 1)).toBe(true);
    expect(lockToRead(native, 2)).toBe(true);
    expect(lockToWrite(native, 3, true)).toBe(false);
  });

  it.each([true, false])('let one write, whole file: %s', (whole) => {
    const { native } = new LockedFile();
    expect(lockToWrite(native, 1, whole)).toBe(true);
    expect(lockToRead(native, 2)).toBe(false);
    expect(lockToWrite(native, 3, !whole)).toBe(false);
  });

  it('let QEMU read beside, and not write', () => {
    const file = new LockedFile();
    file.qemu(QEMU, 0b0001, 0b0101);
    expect(lockToRead(file.native, 1)).toBe(true);
    expect(lockToWrite(file.native, 2, true)).toBe(false);
  });

  it.each([
    ['writes', 0b0011, 0b0101],
    ['changes the size', 0b1001, 0b0101],
    ['wants no others who read', 0b0001, 0b0100],
  ])('respect a QEMU that %s', (_what, used, shared) => {
    const file = new LockedFile();
    file.qemu(QEMU, used, shared);
    expect(lockToRead(file.native, 1)).toBe(false);
    expect(lockToWrite(file.native, 2, true)).toBe(false);
  });

  it('let others read that lock the whole file', () => {
    const { native } = new LockedFile();
    expect(native.lockRange(QEMU, false, 0, 0)).toBe(true);
    expect(lockToRead(native, 1)).toBe(true);
  });
});

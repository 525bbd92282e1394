import { describe, expect, it } from 'vitest';
import { buildE820 } from '../../../src/platform/x86_64/e820.ts';
import {
  alignDown,
  alignUp,
  guestPhysBits,
  inRam,
  planMemory,
} from '../../../src/platform/x86_64/memoryMap.ts';
import { GIB, MIB } from './support.ts';

describe('planMemory', () => {
  it('keeps small RAM in one region', () => {
    const map = planMemory(512 * MIB, 46);
    expect(map.ram).toEqual([{ address: 0, size: 512 * MIB }]);
    expect(map.ramAbove4G).toBe(0);
    expect(map.window64.start).toBe(4 * GIB);
  });

  it('fills the space up to the hole before going above it', () => {
    expect(planMemory(3 * GIB, 46).ram).toEqual([{ address: 0, size: 3 * GIB }]);
    expect(planMemory(3 * GIB + 4096, 46).ram).toEqual([
      { address: 0, size: 3 * GIB },
      { address: 4 * GIB, size: 4096 },
    ]);
  });

  it('puts the 64-bit window above RAM and where the reference has it', () => {
    const map = planMemory(5 * GIB + 4096, 46);
    expect(map.window64.start).toBe(6 * GIB + 128 * MIB);
    const windowEnd = map.window64.start + map.window64.size;
    expect(windowEnd).toBe(2 ** 46 - 64 * 1024 - MIB);
  });

  it.each([
    ['nothing', 0, 46],
    ['no more than the legacy first megabyte', MIB, 46],
    ['half a page', 512 * MIB + 2048, 46],
    ['more than 32 bits hold', 64 * MIB, 32],
    ['more than 36 bits hold', 64 * GIB, 36],
    ['more than any machine has', 2 ** 52, 52],
  ])('refuses %s', (_name, size, bits) => {
    expect(() => planMemory(size, bits)).toThrowError(
      expect.objectContaining({ code: 'ERR_TSVMM_MEMORY', name: 'PlatformError' }),
    );
  });

  it('wants a multiple of huge pages', () => {
    expect(() => planMemory(513 * MIB, 46, 2 * MIB)).toThrow(/multiple of its page size of 2097152/);
    expect(planMemory(514 * MIB, 46, 2 * MIB).ramBelow4G).toBe(514 * MIB);
  });
});

describe('inRam', () => {
  const map = planMemory(4 * GIB, 46);

  it.each([
    [0, 1, true],
    [3 * GIB - 1, 1, true],
    [3 * GIB - 1, 2, false],
    [3 * GIB, 0, true],
    [3 * GIB, 1, false],
    [4 * GIB, GIB, true],
    [4 * GIB, GIB + 1, false],
    [2 ** 53, 1, false],
    [0, 2 ** 64, false],
  ])('of %d for %d bytes is %s', (address, size, expected) => {
    expect(inRam(map, address, size)).toBe(expected);
  });
});

describe('address width', () => {
  it('is the least of host, configuration and architecture', () => {
    expect(guestPhysBits(48, 46)).toBe(46);
    expect(guestPhysBits(39, 46)).toBe(39);
    expect(guestPhysBits(64, 255)).toBe(52);
  });
});

describe('alignment', () => {
  it('is exact above 32 bits', () => {
    expect(alignDown(2 ** 45 + 4097, 4096)).toBe(2 ** 45 + 4096);
    expect(alignUp(2 ** 45 + 1, 4096)).toBe(2 ** 45 + 4096);
    expect(alignUp(2 ** 45, 4096)).toBe(2 ** 45);
  });
});

describe('e820', () => {
  it('tells RAM around the legacy and the PCI hole', () => {
    expect(buildE820(planMemory(4 * GIB, 46))).toEqual([
      { address: 0, size: 0xa0000, type: 1 },
      { address: MIB, size: 3 * GIB - MIB, type: 1 },
      { address: 0xe800_0000, size: 256 * MIB, type: 2 },
      { address: 4 * GIB, size: GIB, type: 1 },
    ]);
    expect(buildE820(planMemory(512 * MIB, 46))).toHaveLength(3);
  });
});

import { describe, expect, it } from 'vitest';
import { buildE820 } from '../../../src/platform/x86_64/e820.ts';
import {
  alignDown,
  alignUp,
  guestPhysBits,
  inRam,
  planMemory,
} from '../../../src/platform/x86_64/memoryMap.ts';
import { GIB, MIB, plainMap } from './support.ts';

describe('planMemory', () => {
  it('keeps small RAM in one region', () => {
    const map = plainMap(512 * MIB);
    expect(map.ram).toEqual([{ address: 0, size: 512 * MIB }]);
    expect(map.ramAbove4G).toBe(0);
    expect(map.window64.start).toBe(4 * GIB);
  });

  it('fills the space up to the hole before going above it', () => {
    expect(plainMap(3 * GIB).ram).toEqual([{ address: 0, size: 3 * GIB }]);
    expect(plainMap(3 * GIB + 4096).ram).toEqual([
      { address: 0, size: 3 * GIB },
      { address: 4 * GIB, size: 4096 },
    ]);
  });

  it('puts the 64-bit window above RAM and where the reference has it', () => {
    const map = plainMap(5 * GIB + 4096);
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
    expect(() => plainMap(size, bits)).toThrowError(
      expect.objectContaining({ code: 'ERR_TSVMM_MEMORY', name: 'PlatformError' }),
    );
  });

  it('wants a multiple of huge pages', () => {
    expect(() => plainMap(513 * MIB, 46, 2 * MIB)).toThrow(/multiple of its page size of 2097152/);
    expect(plainMap(514 * MIB, 46, 2 * MIB).ramBelow4G).toBe(514 * MIB);
  });
});

describe('memory zones', () => {
  const zone = (size: number, pageSize = 4096, hotplugSize = 0) => ({ size, pageSize, hotplugSize });

  it('are one range of RAM where they are adjacent', () => {
    const map = planMemory([zone(GIB), zone(3 * GIB), zone(GIB)], 46);
    expect(map.ram).toEqual([
      { address: 0, size: 3 * GIB },
      { address: 4 * GIB, size: 2 * GIB },
    ]);
    expect(map.zones.map(({ ram }) => ram.length)).toEqual([1, 2, 1]);
    expect([map.ramBelow4G, map.ramAbove4G]).toEqual([3 * GIB, 2 * GIB]);
  });

  it('begin at a multiple of their huge pages, also behind the hole', () => {
    const map = planMemory([zone(GIB + 8192), zone(4 * GIB, GIB), zone(4096)], 46);
    expect(map.zones).toEqual([
      { ram: [{ address: 0, size: GIB + 8192 }] },
      {
        ram: [
          { address: 2 * GIB, size: GIB },
          { address: 4 * GIB, size: 3 * GIB },
        ],
      },
      { ram: [{ address: 7 * GIB, size: 4096 }] },
    ]);
    expect(buildE820(map).map(({ address, size, type }) => [address, size, type])).toEqual([
      [0, 0xa0000, 1],
      [MIB, GIB + 8192 - MIB, 1],
      [2 * GIB, GIB, 1],
      [0xe800_0000, 256 * MIB, 2],
      [4 * GIB, 3 * GIB + 4096, 1],
    ]);
  });

  it('do not make room where no whole page of theirs fits', () => {
    const map = planMemory([zone(2.5 * GIB), zone(GIB, GIB)], 46);
    expect(map.zones[1]?.ram).toEqual([{ address: 4 * GIB, size: GIB }]);
  });

  it('keep what is handed out later apart from RAM, and registers above it', () => {
    const map = planMemory([zone(5 * GIB + 4096, 4096, 256 * MIB), zone(MIB)], 46);
    expect(map.zones[0]?.hotplug).toEqual({ address: 6 * GIB + 128 * MIB, size: 256 * MIB });
    expect(map.window64.start).toBe(6 * GIB + 384 * MIB);
    expect(buildE820(map).at(-1)).toMatchObject({ address: 4 * GIB, size: 2 * GIB + 4096 + MIB });
    const grows = planMemory([zone(GIB)], 46, 300 * MIB);
    expect(grows.growth).toEqual({ address: 4 * GIB, size: 300 * MIB });
    expect(grows.window64.start).toBe(4 * GIB + 384 * MIB);
    const huge = planMemory([zone(5 * GIB, GIB, 2 * GIB), zone(4096)], 46);
    expect(huge.zones[0]?.hotplug).toEqual({ address: 7 * GIB, size: 2 * GIB });
    const odd = planMemory([zone(GIB, 2 * MIB)], 46, 3 * MIB);
    expect(odd.growth).toEqual({ address: 4 * GIB, size: 4 * MIB });
  });

  it.each([
    [
      'hotplug_size that is no multiple of 128 MiB',
      [zone(GIB, 4096, 64 * MIB)],
      0,
      /hotplug_size 67108864 is not/,
    ],
    ['room to grow that does not fit', [zone(GIB)], 2 ** 46, /does not fit/],
    ['a first megabyte with a hole in it', [zone(65536), zone(GIB, GIB)], 0, /more than 1 MiB is needed/],
    [
      'too many pieces',
      Array.from({ length: 130 }, (_, i) => (i % 2 ? zone(4 * MIB, 2 * MIB) : zone(4 * MIB + 4096))),
      0,
      /in 66 pieces is too scattered/,
    ],
  ])('are refused with %s', (_name, zones, growth, message) => {
    expect(() => planMemory(zones, 46, growth)).toThrow(message);
  });
});

describe('inRam', () => {
  const map = plainMap(4 * GIB);

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
    expect(buildE820(plainMap(4 * GIB))).toEqual([
      { address: 0, size: 0xa0000, type: 1 },
      { address: MIB, size: 3 * GIB - MIB, type: 1 },
      { address: 0xe800_0000, size: 256 * MIB, type: 2 },
      { address: 4 * GIB, size: GIB, type: 1 },
    ]);
    expect(buildE820(plainMap(512 * MIB))).toHaveLength(3);
  });
});

import { expect, test } from 'vitest';
import { currentMemoryKib, maxMemoryKib } from '../../../../src/api/libvirt/figures.ts';

const MIB = 1 << 20;

test("a balloon of any number of bytes leaves whole KiB: the rest of one is the guest's", () => {
  const memory = { size: 256 * MIB };
  expect(maxMemoryKib({ memory })).toBe(262_144n);
  expect(currentMemoryKib({ memory })).toBe(262_144n);
  expect(currentMemoryKib({ memory, balloon: { size: MIB } })).toBe(261_120n);
  expect(currentMemoryKib({ memory, balloon: { size: MIB + 1 } })).toBe(261_120n);
  expect(currentMemoryKib({ memory, balloon: { size: MIB - 1 } })).toBe(261_121n);
});

import { describe, expect, it } from 'vitest';
import type { PlatformConfig, VmConfigInput } from '../../../src/config/vmConfig.ts';
import { getU64, viewOf } from '../../../src/platform/bytes.ts';
import { buildSmbios } from '../../../src/platform/smbios.ts';
import { configOf } from './support.ts';

const REFUSED = expect.objectContaining({ code: 'ERR_TSVMM_SMBIOS' });

function platform(fields: NonNullable<VmConfigInput['platform']>): PlatformConfig {
  return configOf({ platform: fields }).platform as PlatformConfig;
}

interface Structure {
  readonly type: number;
  readonly data: Uint8Array;
  readonly strings: string[];
}

/** Reads structures as a guest does. */
function structures(block: Uint8Array): Structure[] {
  const found: Structure[] = [];
  let at = 32;
  while (at < block.length) {
    const data = block.subarray(at, at + (block[at + 1] as number));
    const strings: string[] = [];
    let end = at + data.length;
    while (block[end] !== 0) {
      const nul = block.indexOf(0, end);
      strings.push(new TextDecoder().decode(block.subarray(end, nul)));
      end = nul + 1;
    }
    found.push({ type: data[0] as number, data, strings });
    at = strings.length === 0 ? end + 2 : end + 1;
  }
  expect(at).toBe(block.length);
  return found;
}

describe('buildSmbios', () => {
  it('starts with an entry point that leads to the structures', () => {
    const block = buildSmbios(undefined, 0xf0000, 0x10000);
    expect(String.fromCharCode(...block.subarray(0, 5))).toBe('_SM3_');
    expect(block.subarray(0, 24).reduce((sum, byte) => (sum + byte) & 0xff, 0)).toBe(0);
    expect([block[6], block[7], block[8]]).toEqual([24, 3, 0]);
    expect(viewOf(block).getUint32(12, true)).toBe(block.length - 32);
    expect(getU64(viewOf(block), 16)).toBe(0xf0020);
  });

  it('has firmware, system and end by default', () => {
    const all = structures(buildSmbios(undefined, 0xf0000, 0x10000));
    expect(all.map((structure) => structure.type)).toEqual([0, 1, 127]);
    expect(all[0]?.strings).toEqual(['tsvmm', '0']);
    expect(all[1]?.strings).toEqual(['tsvmm', 'tsvmm']);
    expect(all.map((structure) => viewOf(structure.data).getUint16(2, true))).toEqual([0, 1, 2]);
  });

  it('carries what the configuration says', () => {
    const config = platform({
      system_manufacturer: 'Maker',
      system_product_name: 'Thing',
      system_version: '1.0',
      system_serial_number: 'ds=nocloud',
      system_uuid: '00112233-4455-6677-8899-aAbBcCdDeEfF',
      system_sku_number: 'sku',
      system_family: 'Familie Müller',
      chassis_asset_tag: 'tag',
      oem_strings: ['one', '', 'three'],
    });
    const [, system, chassis, oem] = structures(buildSmbios(config, 0xf0000, 0x10000));
    expect(system?.strings).toEqual(['Maker', 'Thing', '1.0', 'ds=nocloud', 'sku', 'Familie Müller']);
    expect([...(system?.data.subarray(4, 8) ?? [])]).toEqual([1, 2, 3, 4]);
    expect([...(system?.data.subarray(8, 24) ?? [])]).toEqual([
      0x33, 0x22, 0x11, 0x00, 0x55, 0x44, 0x77, 0x66, 0x88, 0x99, 0xaa, 0xbb, 0xcc, 0xdd, 0xee, 0xff,
    ]);
    expect([...(system?.data.subarray(25) ?? [])]).toEqual([5, 6]);
    expect([chassis?.type, chassis?.strings[(chassis.data[8] as number) - 1]]).toEqual([3, 'tag']);
    expect([oem?.type, oem?.data[4], oem?.strings]).toEqual([11, 3, ['one', ' ', 'three']]);
  });

  it.each([
    'x',
    '00112233-4455-6677-8899-aabbccddeef',
    '00112233-4455-6677-8899-aabbccddeefg',
    '00112233445566778899aabbccddeeff----',
  ])('refuses the UUID %s', (uuid) => {
    expect(() => buildSmbios(platform({ system_uuid: uuid }), 0, 0x10000)).toThrowError(REFUSED);
  });

  it('refuses what has no room or cannot be said', () => {
    const long = 'ü'.repeat(40_000);
    expect(() => buildSmbios(platform({ system_family: long }), 0, 0x10000)).toThrowError(REFUSED);
    expect(() => buildSmbios(platform({ system_family: 'a\0b' }), 0, 0x10000)).toThrowError(REFUSED);
    const many = new Array<string>(256).fill('x');
    expect(() => buildSmbios(platform({ oem_strings: many }), 0, 0x10000)).toThrowError(REFUSED);
    expect(() => buildSmbios(platform({ oem_strings: many.slice(1) }), 0, 0x10000)).not.toThrow();
  });

  it('never writes past its room, however little it is', () => {
    const config = platform({ system_serial_number: 'number', oem_strings: ['a', 'b'] });
    const { length } = buildSmbios(config, 0, 0x10000);
    for (let capacity = 32; capacity < length; capacity++) {
      expect(() => buildSmbios(config, 0, capacity), `${capacity} bytes`).toThrowError(REFUSED);
    }
    expect(buildSmbios(config, 0, length)).toHaveLength(length);
  });
});

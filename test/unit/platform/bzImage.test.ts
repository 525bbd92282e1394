import { describe, expect, it } from 'vitest';
import { isBzImage, parseBzImage } from '../../../src/platform/x86_64/bzImage.ts';
import { imageOf, MIB, makeBzImage } from './support.ts';

const INVALID = expect.objectContaining({ code: 'ERR_TSVMM_KERNEL_INVALID' });

function parse(change: (view: DataView) => void = () => {}, bytes = makeBzImage()) {
  change(new DataView(bytes.buffer));
  return parseBzImage(imageOf(bytes));
}

describe('parseBzImage', () => {
  it('reads the header', () => {
    const kernel = parse();
    expect(kernel).toMatchObject({
      codeAddress: MIB,
      codeOffset: 1024,
      codeSize: 4096,
      end: 48 * MIB,
      commandLineMax: 2047,
    });
    expect(kernel.initramfsMax).toBe(Number.MAX_SAFE_INTEGER);
    expect(kernel.setupHeader).toHaveLength(0x26c - 0x1f1);
  });

  it('takes 0 setup sectors for 4', () => {
    const kernel = parse((view) => view.setUint8(0x1f1, 0));
    expect(kernel.codeOffset).toBe(5 * 512);
  });

  it('knows the limit of kernels that cannot reach everything', () => {
    expect(parse((view) => view.setUint16(0x236, 1, true)).initramfsMax).toBe(0x7fff_ffff);
  });

  it('knows where a kernel ends that does not move', () => {
    const change = (view: DataView) => {
      view.setUint8(0x234, 0);
      view.setUint32(0x258, MIB, true);
    };
    expect(parse(change).end).toBe(33 * MIB);
  });

  it('is sure of its own alignment rule', () => {
    const change = (view: DataView) => {
      view.setUint32(0x230, 2 * MIB, true);
      view.setUint32(0x258, 0, true);
    };
    expect(parse(change).end).toBe(34 * MIB);
    expect(parse((view) => view.setUint32(0x230, 0, true)).end).toBe(48 * MIB);
  });

  it.each<[string, (view: DataView) => void]>([
    ['an old protocol', (view) => view.setUint16(0x206, 0x0209, true)],
    ['a zImage', (view) => view.setUint8(0x211, 0)],
    ['a header that ends early', (view) => view.setUint8(0x201, 0x10)],
    ['a header that reaches into the memory map', (view) => view.setUint8(0x201, 0xff)],
    ['more setup sectors than the file has', (view) => view.setUint8(0x1f1, 255)],
    ['a preferred address above 4 GiB', (view) => view.setUint32(0x25c, 1, true)],
  ])('refuses %s', (_name, change) => {
    expect(() => parse(change)).toThrowError(INVALID);
  });

  it('refuses a file cut before its code, with one clear error', () => {
    const whole = makeBzImage();
    for (let length = 0; length <= 1024; length++) {
      const image = imageOf(whole.slice(0, length));
      if (isBzImage(image)) {
        expect(() => parseBzImage(image), `cut at ${length}`).toThrowError(INVALID);
      } else {
        expect(length).toBeLessThan(0x206);
      }
    }
  });

  it('refuses a file cut inside its code, and accepts a signature behind it', () => {
    const bytes = makeBzImage(4096);
    new DataView(bytes.buffer).setUint32(0x1f4, 4000 / 16, true);
    expect(parseBzImage(imageOf(bytes)).codeSize).toBe(4096);
    expect(parseBzImage(imageOf(bytes.slice(0, 1024 + 3985))).codeSize).toBe(3985);
    expect(() => parseBzImage(imageOf(bytes.slice(0, 1024 + 3984)))).toThrow(/truncated at 5008 bytes/);
  });

  it('survives any single wrong byte of the header', () => {
    for (let at = 0x1f1; at < 0x270; at++) {
      for (const value of [0, 1, 0x7f, 0x80, 0xff]) {
        const bytes = makeBzImage();
        bytes[at] = value;
        const image = imageOf(bytes);
        try {
          if (isBzImage(image)) {
            expect(parseBzImage(image).end).toBeGreaterThan(0);
          }
        } catch (error) {
          expect(error, `byte ${at} = ${value}`).toEqual(INVALID);
        }
      }
    }
  });
});

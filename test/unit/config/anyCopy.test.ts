import { expect, test, vi } from 'vitest';

/** Each call loads the modules anew, as a program does that has the package as a module and as CommonJS. */
async function copy() {
  vi.resetModules();
  const library = await import('../../../src/index.ts');
  const { LibvirtError } = await import('../../../src/libvirt.ts');
  const { FileInUse } = await import('../../../src/vmm/namedFiles.ts');
  return { ...library, LibvirtError, FileInUse };
}

const NAMES = ['ConfigError', 'LibvirtError', 'PlatformError', 'VmhostError', 'VmmError'] as const;

test('an error of one copy of the package is one of the same class of another, and of no other class', async () => {
  const [one, other] = [await copy(), await copy()];
  for (const name of NAMES) {
    const error: unknown = new (one[name] as unknown as new (...given: unknown[]) => Error)('x', 'y', 'z');
    expect(other[name]).not.toBe(one[name]);
    expect(NAMES.filter((each) => error instanceof other[each])).toEqual([name]);
    expect(NAMES.filter((each) => error instanceof one[each])).toEqual([name]);
    expect(error).toBeInstanceOf(Error);
    expect(error instanceof other.FileInUse).toBe(false);
  }
  for (const nothing of [undefined, null, 'VmmError', {}, new Error('VmmError')]) {
    expect((nothing as unknown) instanceof one.VmmError).toBe(false);
  }
});

test('classes that are derived know their own objects only', async () => {
  const { FileInUse, VmmError } = await copy();
  const other = await copy();
  expect(new FileInUse('x')).toBeInstanceOf(FileInUse);
  expect(new FileInUse('x')).toBeInstanceOf(VmmError);
  expect(new FileInUse('x')).toBeInstanceOf(other.VmmError);
  expect(new FileInUse('x') instanceof other.FileInUse).toBe(false);
});

import { describe, expect, it } from 'vitest';
import { parseArguments } from '../../../src/cli/arguments.ts';
import { decode } from '../../../src/config/decode.ts';
import { configFromOptions } from '../../../src/config/libraryOptions.ts';
import { validateVmConfig } from '../../../src/config/validate.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';

const payload = { kernel: '/k' };

describe('the balloon', () => {
  it('has what its option says', () => {
    const words = ['--kernel', '/k', '--balloon', 'size=64M,deflate_on_oom=on,free_page_reporting=on,id=b'];
    const invocation = parseArguments(words);
    expect(invocation.action === 'run' && invocation.options.vm?.balloon).toEqual({
      size: 64 << 20,
      deflate_on_oom: true,
      free_page_reporting: true,
      id: 'b',
      pci_segment: 0,
    });
  });

  it('is absent unless asked for', () => {
    expect(decode(vmConfig, { payload }).balloon).toBeUndefined();
  });

  it('is a size in the library', () => {
    expect(configFromOptions({ kernel: '/k', balloon: '1M' }).balloon?.size).toBe(1 << 20);
    expect(configFromOptions({ kernel: '/k', balloon: 4096 }).balloon?.size).toBe(4096);
    const options = { kernel: '/k', balloon: { size: 0, free_page_reporting: true } };
    expect(configFromOptions(options).balloon).toMatchObject({ free_page_reporting: true });
  });

  it('leaves some memory', () => {
    const memory = { size: 1 << 20 };
    const check = (size: number) =>
      validateVmConfig(decode(vmConfig, { payload, memory, balloon: { size } }));
    expect(() => check(0)).not.toThrow();
    expect(() => check((1 << 20) - 1)).not.toThrow();
    expect(() => check(1 << 20)).toThrow("must be below the memory's");
  });
});

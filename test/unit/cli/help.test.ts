import { describe, expect, it } from 'vitest';
import { flagShape, processFlags, unsupportedFlags, vmFlags } from '../../../src/cli/flags.ts';
import { helpText } from '../../../src/cli/help.ts';
import { optionKey } from '../../../src/cli/schemaOptions.ts';
import type { Field } from '../../../src/config/schema.ts';

describe('help', () => {
  const text = helpText();

  it('names every flag', () => {
    for (const name of [...Object.keys(vmFlags), ...Object.keys(processFlags)])
      expect(text).toContain(`  --${name}`);
  });

  it('names every supported key, and says what it is for', () => {
    for (const flag of Object.values(vmFlags)) {
      if (flag.kind === 'console' || flag.kind === 'payload' || flag.kind === 'switch') continue;
      for (const [name, field] of Object.entries(flagShape(flag).fields) as [string, Field][]) {
        const key = optionKey(name, field);
        if (key === undefined || field.unsupported) continue;
        expect(text).toContain(` ${key}=`);
        expect(field.help, `${flagShape(flag).name}.${name}`).toBeTruthy();
      }
    }
  });

  it('does not offer what is not supported', () => {
    for (const name of unsupportedFlags) expect(text).not.toContain(`  --${name} `);
    expect(text).not.toContain('hotplug_size');
  });

  it('fits a terminal of 110 columns', () => {
    for (const line of text.split('\n')) expect(line.length, line).toBeLessThanOrEqual(110);
  });
});

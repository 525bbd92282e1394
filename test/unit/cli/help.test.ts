import { describe, expect, it } from 'vitest';
import { parseArguments } from '../../../src/cli/arguments.ts';
import { flagShape, processFlags, vmFlags } from '../../../src/cli/flags.ts';
import { helpText } from '../../../src/cli/help.ts';
import { manual } from '../../../src/cli/manual.ts';
import { optionKeys } from '../../../src/cli/schemaOptions.ts';
import { subcommandNames } from '../../../src/cli/subcommands.ts';
import { UsageError } from '../../../src/cli/usageError.ts';

const options = manual().flatMap((group) => group.options);
const flags = [...Object.keys(vmFlags()), ...Object.keys(processFlags)];

describe('help', () => {
  const overview = helpText();
  const everything = helpText('all');

  it('has every flag once, with a sentence', () => {
    expect(options.map(({ name }) => name).sort()).toEqual([...flags].sort());
    for (const { name, help } of options) expect(help, name).toBeTruthy();
    for (const name of flags) {
      expect(overview).toContain(`  --${name}`);
      expect(everything).toContain(`  --${name}`);
    }
  });

  it('has every key, and says what it is for', () => {
    for (const [name, flag] of Object.entries(vmFlags())) {
      if (flag.kind === 'console' || flag.kind === 'text' || flag.kind === 'switch') continue;
      const option = options.find((one) => one.name === name);
      expect(option?.keys.map(({ key }) => key).sort(), name).toEqual(optionKeys(flagShape(flag)).sort());
      for (const { key, help } of option?.keys ?? []) {
        expect(help, `--${name} ${key}`).toBeTruthy();
        expect(helpText(name)).toContain(`    ${key}=`);
      }
    }
  });

  it('begins with what is used most, and ends with what is not supported', () => {
    const order = ['kernel', 'disk', 'serial', 'api-socket', 'watchdog', 'fs'].map((name) =>
      overview.indexOf(`\n  --${name} `.trimEnd()),
    );
    expect(order).toEqual([...order].sort((a, b) => a - b));
    expect(overview.split('\n').length).toBeLessThan(120);
    for (const { title, options: members } of manual()) {
      for (const { name, supported } of members)
        expect(supported, name).toBe(!title.includes('not supported'));
    }
  });

  it('explains one option, by its name with or without dashes', () => {
    const text = helpText('memory');
    expect(text).toBe(helpText('--memory'));
    expect(text).toMatch(/^--memory OPTIONS\n {4}Guest memory\n/);
    expect(text).toContain('    prefault=on|off           Populate all pages at start (off)\n');
    expect(text).toContain('    Example: --memory size=1G\n');
    expect(helpText('v')).toContain('--verbose, -v');
    expect(helpText('fs')).toContain('Not supported yet');
    expect(() => helpText('dsik')).toThrow(new UsageError('there is no option --dsik; did you mean --disk?'));
  });

  it.each(options.filter(({ example }) => example).map(({ name, example }) => [`--${name} ${example}`]))(
    'has the example %s, which is understood',
    (line) => {
      const words = (line.match(/"[^"]*"|\S+/g) ?? []).map((word) => word.replace(/^"|"$/g, ''));
      const payload = line.startsWith('--kernel') || line.startsWith('--firmware') ? [] : ['--kernel', '/k'];
      expect(() => parseArguments([...payload, ...words])).not.toThrow();
    },
  );

  it('says what the exit codes are', () => {
    expect(overview).toContain('0 for an orderly end; 1 if a value is refused');
    expect(overview).toContain('Ctrl-A x ends the VM');
    for (const name of subcommandNames) expect(overview).toMatch(new RegExp(`COMMAND[^:]*\\b${name}\\b`));
  });

  it('fits a terminal of 110 columns', () => {
    for (const line of [overview, everything].join('\n').split('\n')) {
      expect(line.length, line).toBeLessThanOrEqual(110);
    }
  });
});

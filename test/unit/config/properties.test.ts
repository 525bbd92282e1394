import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { readJson } from '../../../src/api/rest/jsonReader.ts';
import { writeJson } from '../../../src/api/rest/jsonWriter.ts';
import { parseArguments } from '../../../src/cli/arguments.ts';
import { flagShape, processFlags, vmFlags } from '../../../src/cli/flags.ts';
import { objectFromOptions, optionKeys } from '../../../src/cli/schemaOptions.ts';
import { UsageError } from '../../../src/cli/usageError.ts';
import { checkBootable } from '../../../src/config/bootable.ts';
import { ConfigError } from '../../../src/config/configError.ts';
import { decode } from '../../../src/config/decode.ts';
import type { Field } from '../../../src/config/schema.ts';
import { validateVmConfig } from '../../../src/config/validate.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';
import { objectOf, optionString } from './arbitrary.ts';

/** All together 10^5. fast-check prints the seed of a run that fails. */
const RUNS = 20_000;

const optionFlags = Object.entries(vmFlags()).filter(([, { kind }]) => kind === 'options' || kind === 'list');

/** Fields that option strings have; the items of fw_cfg have a grammar of their own. */
function writable(name: string, field: Field): boolean {
  return (field.cli !== false || field.memberKeys !== undefined) && name !== 'items';
}

function refusedProperly(work: () => unknown): void {
  try {
    work();
  } catch (error) {
    if (!(error instanceof ConfigError) && !(error instanceof UsageError)) throw error;
    expect(error.message).not.toBe('');
  }
}

describe('any configuration', () => {
  it.each(optionFlags)('survives --%s as an option string', (name, flag) => {
    const shape = flagShape(flag);
    const runs = Math.ceil(RUNS / optionFlags.length);
    fc.assert(
      fc.property(objectOf(shape, writable), (object) => {
        const read = objectFromOptions(shape, `--${name}`, optionString(shape, object));
        expect(decode(shape, read)).toEqual(decode(shape, object));
      }),
      { numRuns: runs },
    );
  });

  it('survives JSON, with its defaults', () => {
    fc.assert(
      fc.property(
        objectOf(vmConfig, () => true),
        (object) => {
          const config = decode(vmConfig, object);
          expect(decode(vmConfig, readJson(writeJson(config)))).toEqual(config);
          refusedProperly(() => {
            validateVmConfig(config);
            checkBootable(config);
          });
        },
      ),
      { numRuns: RUNS / 20 },
    );
  });
});

describe('anything else is refused with a sentence', () => {
  it('as JSON', () => {
    const names = fc.constantFrom(...Object.keys(vmConfig.fields), 'size', 'mode', '__proto__', 'toString');
    const value = fc.letrec((tie) => ({
      leaf: fc.oneof(
        fc.string(),
        fc.double(),
        fc.maxSafeInteger(),
        fc.boolean(),
        fc.constant(null),
        fc.bigInt(),
      ),
      tree: fc.oneof(
        { depthSize: 'small' },
        tie('leaf'),
        fc.array(tie('tree'), { maxLength: 3 }),
        fc.dictionary(names, tie('tree'), { maxKeys: 4 }),
      ),
    })).tree;
    fc.assert(
      fc.property(value, (json) => refusedProperly(() => decode(vmConfig, json))),
      { numRuns: RUNS },
    );
  });

  it('as an option string', () => {
    const keys = [...new Set(optionFlags.flatMap(([, flag]) => optionKeys(flagShape(flag))))];
    const piece = fc.oneof(
      fc.constantFrom(...keys, ...',=[]"@:-', 'on', 'off', '0', '1-3', '[0@1]', '4K', '0x1', 'valueOf'),
      fc.string({ maxLength: 4 }),
    );
    const texts = fc.array(piece, { maxLength: 12 }).map((pieces) => pieces.join(''));
    fc.assert(
      fc.property(fc.constantFrom(...optionFlags), texts, ([name, flag], text) =>
        refusedProperly(() => decode(flagShape(flag), objectFromOptions(flagShape(flag), `--${name}`, text))),
      ),
      { numRuns: RUNS * 2 },
    );
  });

  it('as a command line', () => {
    const flags = [...Object.keys(vmFlags()), ...Object.keys(processFlags)].map((name) => `--${name}`);
    const word = fc.oneof(
      fc.constantFrom(
        ...flags,
        'toString',
        'constructor=x',
        '-v',
        '-V',
        '-h',
        '-',
        '--',
        'path=/a',
        'size=1G',
        'off',
        '/k',
      ),
      fc.string({ maxLength: 8 }),
    );
    fc.assert(
      fc.property(fc.array(word, { maxLength: 8 }), (words) => refusedProperly(() => parseArguments(words))),
      { numRuns: RUNS },
    );
  });
});

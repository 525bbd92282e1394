/** Random JSON and TOML for what reads requests, definitions and a daemon's files: a value or a sentence. */
import fc from 'fast-check';
import { expect, test } from 'vitest';
import { readDaemonState, readJcard } from '../../../../src/api/vmhost/jcard.ts';
import { JsonObjectReader } from '../../../../src/api/vmhost/jsonObjectReader.ts';
import { ConfigError } from '../../../../src/config/configError.ts';
import { readDefinition } from '../../../../src/supervisor/definition.ts';
import { FUZZ_TIMEOUT_MS, fuzzing } from '../../support/fuzz.ts';

const KEYS = [
  ...[
    'name',
    'config',
    'policy',
    'payload',
    'kernel',
    'cpus',
    'boot_vcpus',
    'memory',
    'size',
    'disks',
    'path',
    'net',
  ],
  ...[
    'resources',
    'network',
    'mode',
    'forwards',
    'proto',
    'host',
    'guest',
    'secrets',
    'mixtape',
    'shared',
    'uuid',
  ],
  ...[
    'ssh_port',
    'vsock_cid',
    'ssh_key_path',
    'restart',
    'when',
    'limits',
    '__proto__',
    'constructor',
    'toString',
  ],
];
const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    // biome-ignore lint/suspicious/noTemplateCurlyInString: it is jcard.toml's, which names the environment so
    fc.constantFrom(null, true, '', 'x', '${HOME}', '4GiB', -1, 0, 1, 2 ** 53, 1e308, 0.5, '\0'),
    fc.string(),
    fc.array(tie('value'), { maxLength: 3 }),
    fc
      .array(fc.tuple(fc.constantFrom(...KEYS), tie('value')), { maxLength: 5 })
      // As JSON.parse makes it: a key is a key, whatever it is called.
      .map((entries) =>
        JSON.parse(`{${entries.map(([key, of]) => `${JSON.stringify(key)}:${JSON.stringify(of)}`).join()}}`),
      ),
  ),
}));

const readers = {
  readDefinition,
  readDaemonState,
  readJcard: (json: unknown) => readJcard(json, { HOME: '/root' }),
};

test.each(Object.entries(readers))('%s', { timeout: FUZZ_TIMEOUT_MS }, (_, read) => {
  fc.assert(
    fc.property(value, (json) => {
      try {
        read(json);
      } catch (error) {
        expect(error).toBeInstanceOf(ConfigError);
        expect((error as Error).message.length).toBeLessThan(2_000);
      }
      expect(({} as Record<string, unknown>).kernel).toBeUndefined();
    }),
    { ...fuzzing, numRuns: 3 * fuzzing.numRuns },
  );
});

test('an object is found in a stream however it is cut', { timeout: FUZZ_TIMEOUT_MS }, () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.string(), fc.nat(7), (object, rest, cut) => {
      const bytes = Buffer.from(`\n ${JSON.stringify(object)}${rest}`);
      const reader = new JsonObjectReader(65_536);
      let found: string | undefined;
      for (let at = 0; at < bytes.length && found === undefined; at += cut + 1) {
        found = reader.add(bytes.subarray(at, at + cut + 1));
      }
      expect(JSON.parse(String(found))).toEqual(JSON.parse(JSON.stringify(object)));
    }),
    fuzzing,
  );
});

test('random bytes are an object, not yet one, or an error', { timeout: FUZZ_TIMEOUT_MS }, () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 300 }),
    fc
      .string({ unit: fc.constantFrom(...'{}[]",:\\ a0\u00fc') })
      .map((text) => Uint8Array.from(Buffer.from(text))),
  );
  fc.assert(
    fc.property(bytes, (input) => {
      try {
        new JsonObjectReader(200).add(input);
      } catch (error) {
        expect(error).toBeInstanceOf(Error);
      }
    }),
    { ...fuzzing, numRuns: 3 * fuzzing.numRuns },
  );
  const deep = new JsonObjectReader(65_536);
  expect(deep.add(Buffer.from('{"a":'.repeat(10_000)))).toBeUndefined();
  expect(() => deep.add(Buffer.from('['.repeat(20_000)))).toThrow(/longer than 65536 bytes/);
});

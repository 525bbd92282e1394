/** What a start executes. */
import { execFile } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { guestArgs, ROOT, temporaryFolder } from './support.ts';

/**
 * In the executable's interpreter the first call of a function costs some 7 us and a page of memory, whatever it does.
 * Who needs more of them asks first whether every start does: of devices, memory and NUMA most machines have little.
 */
const MAX_FUNCTIONS = 520;

/** The runtime compiles these when they are first called. */
const COMPILED_BUILTINS = /\.(at|every|find\w*|flat|flatMap|map|reduce\w*|some)\(/g;

/**
 * The runtime makes these when a function that names them is first called, whether or not it comes to that place:
 * Buffer in 70 us, the others in 4 to 25.
 */
const MADE_WHEN_NAMED =
  /(?<![.\w'`])(AbortController|Buffer|JSON|RangeError|Text(?:De|En)coder|TypeError|URL|WeakMap)\b/g;

interface Range {
  readonly startOffset: number;
  readonly endOffset: number;
  readonly count: number;
}

interface CoveredFile {
  readonly url: string;
  /** Ranges of a function lie within each other, outer ones first. */
  readonly functions: readonly { readonly ranges: readonly [Range, ...Range[]] }[];
}

/** What of our own code runs from the start of a plain VM to its end. */
async function coverage(): Promise<CoveredFile[]> {
  const folder = temporaryFolder();
  const program = path.join(ROOT, 'dist/js/tsvmm.js');
  const env = { ...process.env, NODE_V8_COVERAGE: folder };
  await promisify(execFile)(process.execPath, [program, ...guestArgs({ cmdline: 'run=serial' })], { env });
  return fs.readdirSync(folder).flatMap((file) => {
    const { result } = JSON.parse(fs.readFileSync(path.join(folder, file), 'utf8')) as {
      readonly result: readonly CoveredFile[];
    };
    return result.filter(({ url }) => url.includes('/dist/js/'));
  });
}

/** The text of a file with blanks for what did not run. */
function textThatRan({ url, functions }: CoveredFile): string {
  // Offsets count units of UTF-16.
  const text = fs.readFileSync(new URL(url), 'utf8').split('');
  const ran = new Uint8Array(text.length);
  for (const { ranges } of functions) {
    for (const { startOffset, endOffset, count } of ranges)
      ran.fill(count > 0 ? 1 : 0, startOffset, endOffset);
  }
  return text.map((character, index) => (ran[index] ? character : ' ')).join('');
}

/** The text of each function that was called, without that of functions in it. */
function calledFunctions({ url, functions }: CoveredFile): string[] {
  const text = fs.readFileSync(new URL(url), 'utf8');
  const all = functions.map(({ ranges: [{ startOffset, endOffset, count }] }) => ({
    ...{ start: startOffset, end: endOffset, count },
  }));
  return all
    .filter(({ count }) => count > 0)
    .map(({ start, end }) => {
      const inner = all.filter(
        (other) => other.start >= start && other.end <= end && other.end - other.start < end - start,
      );
      const own = text.slice(start, end).split('');
      for (const one of inner) own.fill(' ', one.start - start, one.end - start);
      return own.join('');
    });
}

test('a plain VM is started and ended by few functions', async () => {
  const files = await coverage();
  const called = files.flatMap(({ functions }) => functions.filter(({ ranges }) => ranges[0].count > 0));
  // It is the start that was counted.
  expect(called.length).toBeGreaterThan(300);
  expect(called.length).toBeLessThan(MAX_FUNCTIONS);
});

test('a start calls no function of arrays that the runtime has to compile first', async () => {
  const texts = (await coverage()).map(textThatRan);
  expect(texts.join('')).toContain('parseArguments');
  expect(texts.flatMap((text) => text.match(COMPILED_BUILTINS) ?? [])).toEqual([]);
});

/** Of what is no code but words. */
const LITERALS = /\/\*.*?\*\/|\/\/.*|'[^'\n]*'|"[^"\n]*"/g;
/**
 * Bun decodes base64 by itself, and the executable's addon is beside it. Of classes, methods that were not called are
 * not told apart.
 */
const LEFT_OUT = /^(class|function (viaBuffer|ownRoot)\()/;

test('a start calls no function that names what the runtime would have to make first', async () => {
  const texts = (await coverage()).flatMap(calledFunctions);
  expect(texts.join('')).toContain('parseArguments');
  const named = texts
    .filter((text) => !LEFT_OUT.test(text))
    .flatMap((text) => {
      const names = text.replace(LITERALS, '').match(MADE_WHEN_NAMED) ?? [];
      return names.map((name) => `${name}: ${text.slice(0, 60)}`);
    });
  expect(named).toEqual([]);
});

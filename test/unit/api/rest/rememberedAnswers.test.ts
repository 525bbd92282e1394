import { expect, test } from 'vitest';
import type { HttpRequest } from '../../../../src/api/rest/httpRequest.ts';
import type { Answer } from '../../../../src/api/rest/httpResponse.ts';
import { RememberedAnswers } from '../../../../src/api/rest/rememberedAnswers.ts';
import type { StreamServerHandle } from '../../../../src/native.ts';

/** As many as are kept. */
const KEPT = 32;

test('an answer that is not brought up to date any more is not given any more', () => {
  const core = new Map<string, string>();
  const streams = {
    streamRemember: (_: StreamServerHandle, request: Uint8Array, answer: Uint8Array) =>
      void core.set(Buffer.from(request).toString(), Buffer.from(answer).toString()),
    streamRememberMemory: () => {},
    streamRememberCounters: () => {},
    streamForget: (_: StreamServerHandle, request: Uint8Array) =>
      void core.delete(Buffer.from(request).toString()),
  };
  let version = 1;
  const now = (path: string): Answer => {
    const answer = { status: 200, body: `version ${version}` };
    return path === '/info' ? { ...answer, lasting: true } : answer;
  };
  const remembered = new RememberedAnswers(streams, {} as StreamServerHandle, ({ path }) => now(path));
  const add = (path: string, words: string) =>
    remembered.add(Buffer.from(words), { path } as HttpRequest, { ...now(path), lasting: true });
  add('/info', 'first');
  for (let i = 1; i < KEPT; i++) add('/counters', `counters ${i}`);
  // The machine is gone: there is nothing to count, so that the core has room for more than is known here.
  remembered.refresh();
  expect([...core.keys()]).toEqual(['first']);
  add('/info', 'second');
  version = 2;
  remembered.refresh();
  expect(core.get('second')).toContain('version 2');
  expect(core.get('first')).toBeUndefined();
});

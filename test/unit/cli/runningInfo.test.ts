import { expect, test } from 'vitest';
import { runningInfo } from '../../../src/cli/vms/runningInfo.ts';

const asking = (call: (path: string, signal: AbortSignal) => Promise<unknown>) => ({
  call: <T>(_: string, path: string, __?: unknown, signal?: AbortSignal) =>
    call(path, signal as AbortSignal) as Promise<T>,
});

test('a process that hangs, or refuses, is not waited for', async () => {
  const hangs = (_: string, signal: AbortSignal) =>
    new Promise((_resolve, reject) => signal.addEventListener('abort', () => reject(signal.reason)));
  expect(await runningInfo(asking(hangs), 'web', 20)).toEqual(new Error('it does not answer within 0.02 s'));
  const refuses = () => Promise.reject(new Error('The VM web is stopped'));
  expect(await runningInfo(asking(refuses), 'web')).toEqual(new Error('The VM web is stopped'));
  const paths: string[] = [];
  const answers = async (path: string) => paths.push(path);
  expect(await runningInfo(asking(answers), 'web')).toBe(1);
  expect(paths).toEqual(['/v1/vms/web/api/api/v1/vm.info']);
});

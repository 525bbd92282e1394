import { expect, test } from 'vitest';
import { checkFilesAnswer } from '../../../src/vmm/answeringFiles.ts';

test('files are asked until they answer, one after the other', async () => {
  const asked: string[] = [];
  const fileAnswers = (path: string) => {
    asked.push(path);
    return asked.length === 3 || path === '/b';
  };
  await checkFilesAnswer({ fileAnswers }, ['/a', '/b']);
  expect(asked).toEqual(['/a', '/a', '/a', '/b']);
});

test('one that does not is named, and the event loop goes on meanwhile', async () => {
  let turns = 0;
  const counting = setInterval(() => turns++, 1);
  const check = checkFilesAnswer({ fileAnswers: () => false }, ['/a'], { timeoutMs: 60 });
  await expect(check).rejects.toMatchObject({
    message: 'The store of /a does not answer',
    code: 'ERR_TSVMM_TIMEOUT',
  });
  clearInterval(counting);
  expect(turns).toBeGreaterThan(1);
});

test('the wait is called off if the store has had time to answer', async () => {
  const begin = performance.now();
  const silence = { fileAnswers: () => false };
  const limits = { isCalledOff: () => true, timeoutMs: 60_000 };
  await expect(checkFilesAnswer(silence, ['/a'], limits)).rejects.toThrow('/a does not answer');
  expect(performance.now() - begin).toBeGreaterThan(100);
  let asked = 0;
  await checkFilesAnswer({ fileAnswers: () => ++asked === 3 }, ['/a'], limits);
});

test('that too many do not is an error at once', async () => {
  const fileAnswers = () => {
    throw Object.assign(new Error('8 files do not answer'), { code: 'EAGAIN' });
  };
  await expect(checkFilesAnswer({ fileAnswers }, ['/a'])).rejects.toThrow('8 files do not answer');
});

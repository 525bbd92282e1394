import { expect, test } from 'vitest';
import { InfoWatchers } from '../../../src/vmm/infoWatchers.ts';

test('who watches is told once of what changes in one go, before who waits for it goes on', async () => {
  const watchers = new InfoWatchers();
  const heard: string[] = [];
  let change = 'first';
  const end = watchers.add(() => heard.push(change));
  watchers.changed();
  change = 'last';
  watchers.changed();
  expect(heard).toEqual([]);
  await (async () => {})();
  expect(heard).toEqual(['last']);
  await new Promise(setImmediate);
  expect(heard).toEqual(['last']);
  end();
  watchers.changed();
  await new Promise(setImmediate);
  expect(heard).toEqual(['last']);
});

test('who has to know at once is told at once, and not again', async () => {
  const watchers = new InfoWatchers();
  let told = 0;
  watchers.add(() => told++);
  watchers.tell();
  expect(told).toBe(0);
  watchers.changed();
  watchers.tell();
  expect(told).toBe(1);
  await new Promise(setImmediate);
  expect(told).toBe(1);
});

import { beforeEach, expect, test } from 'vitest';
import { ClientLimit, mostClients } from '../../../src/supervisor/clientLimit.ts';

let gone: string[];
let warnings: string[];
let limit: ClientLimit<string>;
beforeEach(() => {
  gone = [];
  warnings = [];
  limit = new ClientLimit({
    most: 3,
    socket: 'a.sock',
    warn: (message) => void warnings.push(message),
    disconnect: (client) => {
      gone.push(client);
      limit.remove(client);
    },
  });
});

test.each([
  ['Max open files            20000                20000                files', 1_024],
  [
    'Max processes 7 7 processes\nMax open files            600                  600                  files',
    75,
  ],
  ['Max open files            unlimited            unlimited            files', 1_024],
])('of %j so many are clients', (limits, most) => expect(mostClients(limits)).toBe(most));

test('the longest idle makes room for the next, and who is at work stays', () => {
  expect(['a', 'b', 'c'].map((client) => limit.add(client))).toEqual([true, true, true]);
  expect(gone).toEqual([]);
  limit.busy('a');
  limit.busy('b');
  limit.idle('b');
  expect(['d', 'e', 'f'].map((client) => limit.add(client))).toEqual([true, true, true]);
  expect(gone).toEqual(['c', 'b', 'd']);
  limit.remove('e');
  expect(limit.add('g')).toBe(true);
  expect(gone).toHaveLength(3);
  expect(warnings).toEqual([
    'a.sock has 3 clients, those that ask for nothing are disconnected, the longest idle first',
  ]);
});

test('where all are at work no more are admitted, until one is idle or gone', () => {
  for (const client of ['a', 'b', 'c']) {
    limit.add(client);
    limit.busy(client);
  }
  expect(limit.add('d')).toBe(false);
  // What becomes of one that was not admitted changes nothing.
  limit.busy('d');
  limit.idle('d');
  limit.remove('d');
  expect(limit.add('d')).toBe(false);
  limit.idle('b');
  expect([limit.add('d'), gone]).toEqual([true, ['b']]);
  expect(warnings).toEqual(['a.sock has 3 clients, all of them at work: no more are admitted']);
});

test('a client with two requests at once is at work until both are answered', () => {
  for (const client of ['a', 'b', 'c']) limit.add(client);
  limit.busy('a');
  limit.busy('a');
  limit.idle('a');
  expect(['d', 'e', 'f', 'g'].map((client) => limit.add(client))).toEqual([true, true, true, true]);
  expect(gone).toEqual(['b', 'c', 'd', 'e']);
  limit.idle('a');
  expect([limit.add('h'), limit.add('i'), limit.add('j')]).toEqual([true, true, true]);
  expect(gone).toContain('a');
});

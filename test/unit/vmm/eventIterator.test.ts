import { describe, expect, it } from 'vitest';
import { iterateEvents, type NumberedEvent } from '../../../src/vmm/eventIterator.ts';
import { EventLog } from '../../../src/vmm/eventLog.ts';

const named = (event: string) => ({ source: 'vm', event }) as const;
const text = ({ id, event, properties }: NumberedEvent) =>
  `${id} ${event}${properties ? ` ${properties.count}` : ''}`;

async function all(iterator: AsyncIterable<NumberedEvent>): Promise<string[]> {
  const seen: string[] = [];
  for await (const event of iterator) seen.push(text(event));
  return seen;
}

describe('the iterator of events', () => {
  it('gives those to come, each once and in order, until none comes any more', async () => {
    const log = new EventLog();
    log.add(named('before'));
    const iterator = iterateEvents(log, {});
    log.add(named('while nobody asks'));
    const seen = all(iterator);
    await new Promise(setImmediate);
    log.add(named('later'));
    log.add(named('at once'));
    await new Promise(setImmediate);
    log.add(named('last'));
    log.end();
    expect(await seen).toEqual(['2 while nobody asks', '3 later', '4 at once', '5 last']);
    expect(log.watchers).toBe(0);
  });

  it('begins after an event that is given', async () => {
    const log = new EventLog();
    for (const name of ['a', 'b', 'c']) log.add(named(name));
    log.end();
    expect(await all(iterateEvents(log, { since: 0 }))).toEqual(['1 a', '2 b', '3 c']);
    expect(await all(iterateEvents(log, { since: 2 }))).toEqual(['3 c']);
    expect(await all(iterateEvents(log, { since: 99 }))).toEqual([]);
    for (const since of [-1, 1.5, Number.NaN])
      expect(() => iterateEvents(log, { since })).toThrow(RangeError);
  });

  it('tells who is too slow what it has missed, and keeps no more than the log does', async () => {
    const log = new EventLog();
    const iterator = iterateEvents(log, { since: 0 });
    log.add(named('first'));
    expect(text((await iterator.next()).value as NumberedEvent)).toBe('1 first');
    for (let i = 2; i <= 2000; i++) log.add(named('many'));
    const lost = (await iterator.next()).value as NumberedEvent;
    expect(lost).toMatchObject({
      id: 976,
      source: 'vmm',
      event: 'events-lost',
      properties: { count: '975' },
    });
    expect(((await iterator.next()).value as NumberedEvent).id).toBe(977);
    await iterator.return();
  });

  it('ends with the reason of its signal, and listens no more', async () => {
    const log = new EventLog();
    const aborter = new AbortController();
    const next = iterateEvents(log, { signal: aborter.signal }).next();
    expect(log.watchers).toBe(1);
    aborter.abort(new Error('enough'));
    await expect(next).rejects.toThrow('enough');
    expect(log.watchers).toBe(0);
    await expect(iterateEvents(log, { signal: aborter.signal }).next()).rejects.toThrow('enough');
  });
});

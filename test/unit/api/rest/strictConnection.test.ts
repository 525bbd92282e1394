/** When a connection ends with `--api-strict`. */
import { setImmediate } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import { strictErrors } from '../../../../src/api/rest/strictErrors.ts';
import { fakeVmm } from '../support.ts';
import { NO_CONTENT, PING, rest } from './servedRest.ts';

function start() {
  const vmm = fakeVmm();
  rest.serve(vmm, { errors: strictErrors });
  return vmm;
}

describe('a connection with strict errors', () => {
  const ping = (head: string) => `GET /api/v1/vmm.ping ${head}\r\n`;

  it.each(['HTTP/1.1\r\nConnection: upgrade, keep-alive\r\n', 'HTTP/1.0\r\nConnection: Keep-Alive\r\n'])(
    'is kept after a request of %j',
    (head) => {
      start();
      const one = rest.streams.connect();
      one.send(ping(head));
      one.send(PING);
      expect(one.text.split('Connection: keep-alive')).toHaveLength(3);
      expect(one.closed).toBe(false);
    },
  );

  it.each([
    'HTTP/1.1\r\nConnection: TE, Close\r\n',
    'HTTP/1.1\r\nConnection: close\r\nConnection: keep-alive\r\n',
    'HTTP/1.0\r\n',
  ])('is closed after a request of %j, as its client waits for that', async (head) => {
    const vmm = start();
    vmm.boot.mockImplementation(() => setImmediate());
    const one = rest.streams.connect();
    one.send(ping(head));
    one.send(PING);
    expect(one.text.split('HTTP/1.1 200')).toHaveLength(2);
    expect(one.text).toContain('Connection: close');
    expect(one.closed).toBe(true);

    const other = rest.streams.connect();
    other.send(`PUT /api/v1/vm.boot ${head}\r\n`);
    expect(other.closed).toBe(false);
    await vi.waitFor(() => expect(other.closed).toBe(true));
    expect(other.text).toBe(NO_CONTENT.replace('keep-alive', 'close'));
  });

  it('is not closed by an answer that is remembered of who had it closed', () => {
    start();
    for (let i = 0; i < 2; i++) {
      const one = rest.streams.connect();
      one.send(ping('HTTP/1.1\r\nConnection: close\r\n'));
      expect(one.closed).toBe(true);
    }
    const one = rest.streams.connect();
    one.send(PING);
    one.send(PING);
    expect(one.closed).toBe(false);
    expect(one.text.split('keep-alive')).toHaveLength(3);
  });
});

/** Connections of the core as others have them, on a core that is not one. */
import { expect, onTestFinished, test } from 'vitest';
import { CoreStreams } from '../../../src/host/coreStreams.ts';
import type { StreamConnection, StreamHandlers } from '../../../src/host/listen.ts';
import { FileKind } from '../../../src/host/openFlags.ts';
import type { StreamServerHandle } from '../../../src/native.ts';
import { fakeStreams } from '../support/fakeStreams.ts';
import { nodeFiles } from '../support/nodeFiles.ts';

function fixture() {
  const files = nodeFiles();
  const closed: StreamServerHandle[] = [];
  const sockets = fakeStreams(files);
  const { closeStreams } = sockets;
  sockets.closeStreams = (handle) => {
    closed.push(handle);
    closeStreams(handle);
  };
  const heard: string[] = [];
  const made: StreamConnection[] = [];
  const accept = (connection: StreamConnection): StreamHandlers => {
    made.push(connection);
    return {
      data: (bytes) => heard.push(`data ${Buffer.from(bytes)}`),
      ended: () => heard.push('ended'),
      drained: () => heard.push('drained'),
      closed: () => heard.push('closed'),
    };
  };
  const file = () => files.openFile('/dev/null', 0, 0, FileKind.character);
  const streams = new CoreStreams({ ...sockets, closeFile: files.closeFile });
  onTestFinished(() => {
    for (const connection of made) connection.terminate();
    expect([...files.open]).toEqual([]);
  });
  return { streams, sockets, accept, heard, made, closed, file };
}

const immediate = () => new Promise((resolve) => setImmediate(resolve));

test('an adopted connection is served to its end, and the server ends with the last one', async () => {
  const { streams, sockets, accept, heard, made, closed, file } = fixture();
  streams.adopt(file(), accept);
  const [client] = sockets.clients();
  client?.send('one');
  client?.send('two');
  made[0]?.write(Buffer.from('answer'));
  expect(client?.text).toBe('answer');
  client?.endInput();
  expect(heard).toEqual(['data one', 'data two', 'ended']);
  await immediate();
  expect(closed).toHaveLength(0);
  client?.leave();
  expect(heard.at(-1)).toBe('closed');
  await immediate();
  expect(closed).toHaveLength(1);
  // There is another one when it is needed.
  streams.adopt(file(), accept);
  sockets.clients()[0]?.send('three');
  expect(heard.at(-1)).toBe('data three');
});

test('bytes wait while a connection is paused, and are lost when it is closed', async () => {
  const { streams, sockets, accept, heard, made, file } = fixture();
  streams.adopt(file(), accept);
  const [client] = sockets.clients();
  made[0]?.pause();
  client?.send('one');
  expect(heard).toEqual([]);
  made[0]?.resume();
  await immediate();
  expect(heard).toEqual(['data one']);
  made[0]?.pause();
  client?.send('two');
  made[0]?.terminate();
  made[0]?.resume();
  await immediate();
  expect(heard).toEqual(['data one', 'closed']);
});

test('what the peer does not read waits, and it is said when it has left', () => {
  const { streams, sockets, accept, heard, made, file } = fixture();
  streams.adopt(file(), accept);
  const [client] = sockets.clients();
  if (client) client.reading = false;
  made[0]?.write(Buffer.from('much'));
  expect(made[0]?.waiting).toBe(true);
  client?.read();
  expect([made[0]?.waiting, heard, client?.text]).toEqual([false, ['drained'], 'much']);
  if (client) client.reading = false;
  made[0]?.write(Buffer.from('last'));
  made[0]?.end();
  expect(client?.closed).toBe(false);
  client?.read();
  expect([client?.closed, client?.text, heard.at(-1)]).toEqual([true, 'muchlast', 'closed']);
});

test('a listener accepts until it is closed, with its connections or without', async () => {
  const { streams, sockets, accept, heard, closed, file } = fixture();
  const listener = streams.listen(file(), 10, accept);
  const first = sockets.connect();
  first.send('hello');
  expect(heard).toEqual(['data hello']);
  listener.close(false);
  expect(streams.listens).toBe(false);
  expect([first.closed, sockets.connect().closed]).toEqual([false, true]);
  const again = streams.listen(file(), 10, accept);
  const second = sockets.connect();
  again.close(true);
  expect([first.closed, second.closed]).toEqual([true, true]);
  await immediate();
  expect(closed).toHaveLength(1);
});

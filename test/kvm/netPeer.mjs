/**
 * `node netPeer.mjs COUNT SIZE [FLOWS [ADDRESS PORT]]`: sends datagrams to the guest's echo, or to what leads there,
 * and ends well if all come back as they were.
 */
import { createSocket } from 'node:dgram';

const [count = 1, size = 1, flows = 1] = process.argv.slice(2, 5).map(Number);
const [address = '192.0.2.2', port = '7'] = process.argv.slice(5);
/** What a socket has room for on any host. */
const MAX_BYTES_ON_THE_WAY = 100_000;
const AT_ONCE = Math.max(1, Math.min(16, Math.floor(MAX_BYTES_ON_THE_WAY / size)));
const PATIENCE_MS = 500;

/** @param {number} flow */
function echo(flow) {
  return new Promise((resolve, reject) => {
    const socket = createSocket('udp4');
    const waiting = new Map();
    let next = 0;
    const send = (/** @type {number} */ number) => {
      const bytes = Buffer.alloc(size, number & 255);
      bytes.writeUInt32LE(number);
      const tries = (waiting.get(number)?.tries ?? 0) + 1;
      if (tries > 10) return reject(new Error(`datagram ${number} of flow ${flow} does not come back`));
      const timer = setTimeout(send, PATIENCE_MS, number);
      waiting.set(number, { bytes, tries, timer });
      socket.send(bytes, Number(port), address);
    };
    socket.on('message', (bytes) => {
      const number = bytes.readUInt32LE();
      const sent = waiting.get(number);
      if (!sent) return;
      clearTimeout(sent.timer);
      if (!bytes.equals(sent.bytes)) return reject(new Error(`datagram ${number} was changed on its way`));
      waiting.delete(number);
      if (next < count) send(next++);
      else if (waiting.size === 0) socket.close(() => resolve(undefined));
    });
    socket.on('error', reject);
    while (next < Math.min(count, AT_ONCE)) send(next++);
  });
}

await Promise.all(Array.from({ length: flows }, (_, flow) => echo(flow)));

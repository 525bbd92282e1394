/**
 * A program with two servers of streams, of which one is flooded: the other is heard of all the same.
 * argv: the addon, a folder. Prints whether the other was heard of while the flood went on, as JSON.
 */
import { spawn } from 'node:child_process';
import path from 'node:path';

const [addon, folder] = process.argv.slice(2);
const module = { exports: /** @type {any} */ ({}) };
process.dlopen(module, String(addon));
const native = module.exports;

/** Writes to the first socket without end for two seconds, and to the second in the middle of it. */
const CLIENT = `
  import net from 'node:net';
  const [flooded, other] = process.argv.slice(1);
  const writing = Array.from({ length: 4 }, () => net.connect(flooded));
  for (const one of writing) {
    const write = () => { while (one.write('x'.repeat(1000))); };
    one.on('drain', write);
    write();
  }
  setTimeout(() => net.connect(other), 500);
  setTimeout(() => process.exit(), 2000);
`;

let lastFlooded = 0;
let otherHeard = Number.POSITIVE_INFINITY;

/** @param {string} name @param {(event: string, connection: number, server: object) => void} onEvent */
function serve(name, onEvent) {
  const file = path.join(String(folder), name);
  const { listener } = native.listenUnix(file);
  /** @type {object} */
  const server = native.serveStreams(
    listener,
    (/** @type {number} */ connection, /** @type {string} */ event) => onEvent(event, connection, server),
  );
  return file;
}

const flooded = serve('flooded', (event, connection, server) => {
  if (event !== 'received') return;
  lastFlooded = performance.now();
  while (native.streamTake(server, connection).more);
  // There is always more of the others by the time that this one is served.
  for (const start = performance.now(); performance.now() - start < 2; );
});
const other = serve('other', (event) => {
  if (event === 'opened') otherHeard = performance.now();
});
spawn(process.execPath, ['--input-type=module', '-e', CLIENT, flooded, other], { stdio: 'inherit' }).on(
  'exit',
  () => {
    setTimeout(() => {
      console.log(JSON.stringify({ duringTheFlood: lastFlooded - otherHeard > 500 }));
      process.exit();
    }, 300);
  },
);

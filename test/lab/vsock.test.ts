/** socat in a stock guest, and on the host, over the socket device. */
import { expect, test } from 'vitest';
import { LabGuest } from './guest.ts';
import { inLab, sharedLab } from './harness.ts';

/** Half a second after one direction has ended socat would end the other, which here takes its time. */
const SOCAT = ['socat', '-t', '60'];
const SOCKET = '/tmp/vsock';
const STREAMS = 20;
/** One stream that sends a file, stops sending, and hears its checksum, as often as there are streams, all at once. */
const eachStream = (line: string) =>
  `for i in $(seq ${STREAMS}); do (${line}) & done; wait;` +
  'cat /tmp/sum.* | sort | uniq -c; cat /tmp/err.*; rm /tmp/sum.* /tmp/err.*';
/**
 * Whoever connects is patient for 2 s, the guest's kernel as well as the device, and so many programs at once on
 * emulated CPUs can take longer to start: who was told so, and nothing else, tries again.
 */
const untilConnected = (line: string, late: string) => `while ${line}; ${late}; do echo again $i >&2; done`;
const FILE = '/tmp/file';
const MAKE_FILE = `head -c 300000 /dev/urandom > ${FILE}; sha256sum < ${FILE}`;
/** What so many equal lines look like after `uniq -c`. */
const count = (line: string) => new RegExp(`^ *${STREAMS} ${line.trim()}\\n$`);

test('socat, many streams in both directions, also after a reboot', async () => {
  const lab = await sharedLab();
  const server = lab.start({
    command: [...SOCAT, `UNIX-LISTEN:${SOCKET}_7001,fork,backlog=64`, 'SYSTEM:sha256sum'],
    cwd: '/tmp',
    env: {},
    onStdout: () => {},
    onStderr: () => {},
  });
  server.exited.catch(() => {});
  const guest = await LabGuest.boot({ args: ['--vsock', `cid=33,socket=${SOCKET}`], cpus: 2 });

  const fromGuest = async () => {
    const sum = await guest.sh(MAKE_FILE);
    const send = untilConnected(
      `socat -t 60 - VSOCK-CONNECT:2:7001 < ${FILE} > /tmp/sum.$i 2> /tmp/err.$i`,
      "grep -q 'Connection timed out' /tmp/err.$i",
    );
    expect(await guest.sh(eachStream(send))).toMatch(count(sum));
  };
  const fromHost = async () => {
    guest.start([...SOCAT, 'VSOCK-LISTEN:7000,fork,backlog=64', 'SYSTEM:sha256sum']);
    await guest.sh('sleep 1');
    const sum = await inLab(lab, MAKE_FILE);
    const send = untilConnected(
      `(echo CONNECT 7000; cat ${FILE}) | socat -t 60 - UNIX-CONNECT:${SOCKET} > /tmp/all.$i 2> /tmp/err.$i`,
      '! grep -q OK /tmp/all.$i',
    );
    expect(await inLab(lab, eachStream(`${send}; tail -n +2 /tmp/all.$i > /tmp/sum.$i`))).toMatch(count(sum));
  };

  expect(await guest.sh('cat /sys/class/vsock/vsock 2>/dev/null; ls /dev/vsock')).toContain('/dev/vsock');
  await fromGuest();
  await fromHost();
  expect(await guest.sh('socat -u OPEN:/etc/hostname VSOCK-CONNECT:2:7999 2>&1 || echo refused')).toContain(
    'refused',
  );
  const counters = async () =>
    (await guest.api('GET', 'vm.counters')).body as { readonly _vsock0: Record<string, number> };
  await expect.poll(async () => (await counters())._vsock0.streams, { timeout: 10_000 }).toBe(0);
  expect((await counters())._vsock0.streams_opened).toBeGreaterThanOrEqual(2 * STREAMS);

  await guest.rebooted(async () => guest.start(['reboot', '-f']));
  await fromGuest();
  await fromHost();
  expect(await guest.kernelMessages()).not.toContain('Call Trace');
  expect(await guest.powerOff()).toBe(0);
  server.kill(9);
});

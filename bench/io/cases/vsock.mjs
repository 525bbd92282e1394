/** What `bench vsock` measures; guest options are those of bench/guest/vsock.c. */

/** @typedef {import('./cases.mjs').Case} Case */

const MIB = 1 << 20;
const LARGE = 65536;
const PAGE = 4096;
/** Where bench/host puts everything but the guest. */
const HOST_CPU = '1';

/**
 * @param {string} name
 * @param {string} title
 * @param {Record<string, string | number>} guest
 * @returns {Case}
 */
function stream(name, title, guest) {
  const bytes = Number(guest.bytes);
  const packet = Number(guest.packet ?? LARGE);
  const pair = ['pair', '--bytes', `${bytes}`, '--packet', `${packet}`];
  return {
    benchmark: 'vsock',
    name,
    title,
    rate: 'bytes',
    vsock: true,
    guest: { run: 'vsock', ...guest },
    floors: [
      { name: 'UNIX socket pair', args: () => pair },
      // Where a VMM's thread and the program it talks to have their CPU together, as here.
      { name: 'the same on one CPU', args: () => [...pair, '--guest-cpu', HOST_CPU] },
    ],
  };
}

/**
 * @param {string} name
 * @param {string} title
 * @param {'poll' | 'irq'} wait
 * @returns {Case}
 */
function roundTrip(name, title, wait) {
  return {
    benchmark: 'vsock',
    name,
    title,
    rate: 'operations',
    vsock: true,
    guest: { run: 'vsock', direction: 'echo', packet: 64, wait },
    floors: [
      {
        name: 'doorbell to interrupt',
        args: (guest, commandLine) => ['doorbell', '--guest', guest, '--cmdline', commandLine],
        guest: { run: 'doorbell', wait },
      },
    ],
  };
}

/** @type {readonly Case[]} */
export const VSOCK_CASES = [
  stream('to-host-64k', 'stream to the host in packets of 64 KiB', {
    direction: 'to-host',
    packet: LARGE,
    bytes: 1024 * MIB,
  }),
  stream('to-host-4k', 'stream to the host in packets of 4 KiB', {
    direction: 'to-host',
    packet: PAGE,
    bytes: 256 * MIB,
  }),
  stream('to-guest-64k', 'stream to the guest, whose buffers have 64 KiB', {
    direction: 'to-guest',
    buffer: LARGE,
    bytes: 1024 * MIB,
  }),
  stream('to-guest-4k', 'stream to the guest, whose buffers have 4 KiB', {
    direction: 'to-guest',
    buffer: PAGE,
    bytes: 256 * MIB,
  }),
  roundTrip('round-trip', '64 bytes to the host and back, guest polls', 'poll'),
  roundTrip('round-trip-irq', '64 bytes to the host and back, guest woken by MSI-X', 'irq'),
];

/** What `bench net` measures; guest options are those of bench/guest/net.c. */

/** @typedef {import('./cases.mjs').Case} Case */

/** As much as 44 segments carry on a link of 1,500 bytes, with headers: the largest that fits into 64 KiB. */
const LARGE_FRAME = 64294;

/**
 * @param {string} name
 * @param {string} title
 * @param {number} returns
 * @param {Record<string, string | number>} guest
 * @returns {Case}
 */
function net(name, title, returns, guest) {
  const direction = returns === 0 ? 'out' : 'back';
  return {
    benchmark: 'net',
    name,
    title,
    rate: 'operations',
    tap: { returns },
    guest: { run: 'net', direction, copies: Math.max(returns, 1), ...guest },
  };
}

const SMALL = { frame: 60 };
const FULL = { frame: 1514 };
const TSO = { frame: LARGE_FRAME, depth: 32 };

/** @type {readonly Case[]} */
export const NET_CASES = [
  net('transmit-60', 'frames of 60 bytes to a tap device', 0, SMALL),
  net('transmit-1514', 'frames of 1,514 bytes to a tap device', 0, FULL),
  net('transmit-64k', `TSO frames of ${LARGE_FRAME} bytes to a tap device`, 0, TSO),
  net('back-60', 'frames of 60 bytes there and back', 1, SMALL),
  net('back-1514', 'frames of 1,514 bytes there and back', 1, FULL),
  net('back-64k', `TSO frames of ${LARGE_FRAME} bytes there and back`, 1, TSO),
  net('receive-60', 'frames of 60 bytes from a tap device, 16 for each that is sent', 16, {
    ...SMALL,
    depth: 16,
  }),
  net('receive-1514', 'frames of 1,514 bytes from a tap device, 16 for each that is sent', 16, {
    ...FULL,
    depth: 16,
  }),
  net('back-1514-irq', 'frames of 1,514 bytes there and back, guest woken by MSI-X', 1, {
    ...FULL,
    wait: 'irq',
  }),
  net('ping-60', 'one frame of 60 bytes at a time, there and back', 1, { ...SMALL, depth: 1 }),
];

/**
 * Shell commands that make `name` in a network namespace of its own, returning frames as the case wants.
 *
 * @param {string} name
 * @param {number} returns
 */
export function tapCommands(name, returns) {
  const commands = [
    `ip tuntap add dev ${name} mode tap vnet_hdr`,
    // Linux would greet its new neighbour.
    `echo 1 > /proc/sys/net/ipv6/conf/${name}/disable_ipv6`,
    `ip link set ${name} up`,
  ];
  if (returns > 0) {
    const actions = Array(returns - 1).fill(`action mirred egress mirror dev ${name}`);
    actions.push(`action mirred egress redirect dev ${name}`);
    commands.push(`tc qdisc add dev ${name} clsact`);
    commands.push(
      `tc filter add dev ${name} ingress protocol all prio 1 u32 match u32 0 0 ${actions.join(' ')}`,
    );
  }
  return commands.join(' && ');
}

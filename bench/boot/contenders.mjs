/** Who boots the stock guest in the lab, and with which words. Paths are the lab's. */

/**
 * @typedef {object} Contender
 * @property {string} name
 * @property {import('../lib/arguments.mjs').Peer} [peer] brought along at /share/<peer>; tsvmm itself if none
 * @property {readonly string[]} command
 * @property {Record<string, string>} [env]
 * @property {Record<string, string>} [files] to be put into /share
 */

const MEMORY_MIB = 256;
const COMMAND_LINE = 'console=ttyS0 quiet run=poweroff';
/** Firecracker's guests cannot power off: they end with a reset through the keyboard controller. */
const FIRECRACKER_COMMAND_LINE = 'console=ttyS0 quiet run=reboot reboot=k';
const VMLINUX = '/guest/vmlinux';
const BZIMAGE = '/guest/bzImage';
const INITRAMFS = '/guest/initramfs';

/** @param {string} kernel the grammar is the same for Cloud Hypervisor */
function words(kernel) {
  return [
    ...['--kernel', kernel, '--initramfs', INITRAMFS, '--cmdline', COMMAND_LINE],
    ...['--memory', `size=${MEMORY_MIB}M`, '--cpus', 'boot=1', '--serial', 'tty', '--console', 'off'],
  ];
}

/** @type {readonly Contender[]} */
export const CONTENDERS = [
  { name: 'tsvmm', command: ['/tsvmm/bin/tsvmm', ...words(VMLINUX)] },
  { name: 'tsvmm, bzImage', command: ['/tsvmm/bin/tsvmm', ...words(BZIMAGE)] },
  {
    name: 'tsvmm on Node.js',
    command: ['/tsvmm/bin/tsvmm', ...words(VMLINUX)],
    env: { TSVMM_RUNTIME: 'node' },
  },
  {
    name: 'firecracker',
    peer: 'firecracker',
    command: ['/share/firecracker', '--no-api', '--level', 'Off', '--config-file', '/share/firecracker.json'],
    files: {
      'firecracker.json': JSON.stringify({
        'boot-source': {
          kernel_image_path: VMLINUX,
          initrd_path: INITRAMFS,
          boot_args: FIRECRACKER_COMMAND_LINE,
        },
        drives: [],
        'machine-config': { vcpu_count: 1, mem_size_mib: MEMORY_MIB },
      }),
    },
  },
  {
    name: 'cloud-hypervisor',
    peer: 'cloud-hypervisor',
    command: ['/share/cloud-hypervisor', ...words(VMLINUX)],
  },
  {
    name: 'cloud-hypervisor, bzImage',
    peer: 'cloud-hypervisor',
    command: ['/share/cloud-hypervisor', ...words(BZIMAGE)],
  },
];

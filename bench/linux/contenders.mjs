/** Who runs the stock guest with a disk in the lab, and with which words. Paths are the lab's. */

/**
 * @typedef {object} Contender
 * @property {string} name
 * @property {'firecracker' | 'cloud-hypervisor' | 'baseline' | 'qemu'} [peer] brought along at /share/<peer>
 * @property {readonly string[]} command
 * @property {Record<string, string>} [env]
 * @property {Record<string, string>} [files] to be put into /share
 */

const MEMORY_MIB = 384;
const COMMAND_LINE = 'console=ttyS0 quiet run=poweroff';
const VMLINUX = '/guest/vmlinux';
/** The image that every run begins with: in the lab's memory, so that no real disk has a part in it. */
export const DISK = '/tmp/disk.img';
export const INITRAMFS = '/share/initramfs';
/** QEMU's folder in the lab: the program, its libraries and its firmware. */
export const QEMU = '/share/qemu';

/** The grammar is the same for tsvmm and Cloud Hypervisor. */
const WORDS = [
  ...['--kernel', VMLINUX, '--initramfs', INITRAMFS, '--cmdline', COMMAND_LINE],
  ...['--memory', `size=${MEMORY_MIB}M`, '--cpus', 'boot=1', '--serial', 'tty', '--console', 'off'],
  ...['--disk', `path=${DISK},image_type=raw`],
];

/**
 * @param {'Async' | 'Sync'} engine
 * @returns {Contender}
 */
function firecracker(engine) {
  const config = `firecracker-${engine}.json`;
  return {
    name: `firecracker ${engine.toLowerCase()}`,
    peer: 'firecracker',
    command: [
      ...['/share/firecracker', '--no-api', '--enable-pci', '--level', 'Off'],
      ...['--config-file', `/share/${config}`],
    ],
    files: {
      [config]: JSON.stringify({
        'boot-source': {
          kernel_image_path: VMLINUX,
          initrd_path: INITRAMFS,
          // Its guests cannot power off: they end with a reset through the keyboard controller.
          boot_args: 'console=ttyS0 quiet run=reboot reboot=k',
        },
        drives: [
          {
            drive_id: 'disk',
            path_on_host: DISK,
            is_root_device: false,
            is_read_only: false,
            io_engine: engine,
          },
        ],
        'machine-config': { vcpu_count: 1, mem_size_mib: MEMORY_MIB },
      }),
    },
  };
}

/** @type {readonly Contender[]} */
export const CONTENDERS = [
  { name: 'tsvmm', command: ['/tsvmm/bin/tsvmm', ...WORDS] },
  firecracker('Async'),
  firecracker('Sync'),
  { name: 'cloud-hypervisor', peer: 'cloud-hypervisor', command: ['/share/cloud-hypervisor', ...WORDS] },
  {
    name: 'qemu',
    peer: 'qemu',
    env: { LD_LIBRARY_PATH: `${QEMU}/lib` },
    command: [
      ...[`${QEMU}/lib/ld-linux-x86-64.so.2`, `${QEMU}/qemu`, '-L', `${QEMU}/firmware`],
      ...[
        '-M',
        'microvm,pcie=on,rtc=on',
        '-accel',
        'kvm',
        '-cpu',
        'host',
        '-m',
        `${MEMORY_MIB}`,
        '-smp',
        '1',
      ],
      ...['-nodefaults', '-no-user-config', '-display', 'none', '-serial', 'stdio', '-no-reboot'],
      ...['-kernel', '/guest/bzImage', '-initrd', INITRAMFS, '-append', `${COMMAND_LINE} reboot=t`],
      ...['-object', 'iothread,id=io', '-drive', `file=${DISK},if=none,id=disk,format=raw,aio=io_uring`],
      ...['-device', 'virtio-blk-pci,drive=disk,iothread=io,disable-legacy=on'],
    ],
  },
];

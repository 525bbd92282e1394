/** The command that the demo runs, as words and as a person would type it. */
import path from 'node:path';

/**
 * @param {object} where
 * @param {string} where.root folder of the checkout
 * @param {string} where.files folder with the stock guest's files
 * @param {string} where.disk
 * @param {boolean} where.network whether the host has passt
 */
export function vmmCommand({ root, files, disk, network }) {
  return [
    path.join(root, 'bin/tsvmm'),
    ...['--kernel', path.join(files, 'bzImage'), '--initramfs', path.join(files, 'initramfs')],
    ...['--cmdline', 'console=ttyS0 root=/dev/vda', '--disk', `path=${disk},image_type=raw`],
    ...['--cpus', 'boot=2', '--memory', 'size=512M', '--rng', 'src=/dev/urandom'],
    ...(network ? ['--net', 'user=on'] : []),
    ...['--serial', 'tty', '--console', 'off'],
  ];
}

/**
 * What is typed into the guest's shell when nobody sits at a terminal. The last line ends the guest.
 *
 * @param {boolean} network
 */
export function demoScript(network) {
  return [
    'uname -a',
    'nproc',
    'ls /sys/bus/virtio/drivers/*/ | grep virtio[0-9]',
    'cat /etc/motd',
    'dd if=/dev/vda of=/dev/null bs=1M count=16 2>&1 | tail -n 1',
    ...(network ? ['until ip -4 address show eth0 | grep inet; do sleep 1; done'] : []),
    'poweroff',
  ];
}

/**
 * A command as a line for a POSIX shell.
 *
 * @param {readonly string[]} words
 */
export function shellLine(words) {
  return words
    .map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`))
    .join(' ');
}

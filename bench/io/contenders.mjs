/** Who takes part in blk, net and vsock, and with which words. */
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from '../../scripts/lib/paths.mjs';
import { PEERS } from '../lib/arguments.mjs';
import { findCommand } from '../lib/findCommand.mjs';

const MEMORY_MIB = 512;
const GUEST_CID = 3;

/** QEMU's microvm has no firmware that would place BARs: the guest does, within the machine's windows. */
const QEMU_MICROVM_OPTIONS = 'ecam=0xe0000000 mmio=0xc0000000';

/**
 * @typedef {object} IoRun
 * @property {string} guest path of the payload
 * @property {string} commandLine
 * @property {string} folder empty, for sockets and config files
 * @property {{path: string, format: 'raw' | 'qcow2', direct: boolean, queues: number} | undefined} disk
 * @property {string | undefined} tap name of an interface that is there
 * @property {string | undefined} vsock path of the UNIX socket that the device makes
 */

/**
 * @typedef {object} Contender
 * @property {string} name
 * @property {string} file absolute path
 * @property {string} vcpu how names of vCPU threads start
 * @property {(run: IoRun) => string[]} args
 * @property {(run: import('./cases/cases.mjs').Case) => string | undefined} refuses why it cannot run a case
 * @property {Readonly<Record<string, string | number>>} [guest] options for the measuring guest instead of the case's
 * @property {boolean} [raw] runs cases of other image formats on a raw image
 */

/**
 * Everybody who is there and asked for, tsvmm first; `skip` hears of the others.
 *
 * @param {import('./cases/cases.mjs').IoBenchmark} benchmark
 * @param {import('../lib/arguments.mjs').Arguments} options
 * @param {(name: string, reason: string) => void} skip
 * @returns {Contender[]}
 */
export function findContenders(benchmark, options, skip) {
  const present = [tsvmm('tsvmm', path.join(ROOT, 'bin/tsvmm'), options.devices)];
  const wanted = (/** @type {string} */ name) => !options.only || options.only.includes(name);
  const drivers = /** @type {const} */ ({
    baseline: (/** @type {string} */ file) => [tsvmm('baseline', file)],
    'cloud-hypervisor': (/** @type {string} */ file) => [cloudHypervisor(file)],
    firecracker: (/** @type {string} */ file) =>
      benchmark === 'blk' ? [firecracker(file, 'Async'), firecracker(file, 'Sync')] : [firecracker(file)],
  });
  for (const peer of PEERS) {
    const file = options.peers.get(peer);
    if (!wanted(peer)) continue;
    if (file) present.push(...drivers[peer](file));
    else if (peer !== 'baseline') skip(peer, `not given (--peer ${peer}=PATH)`);
  }
  if (!wanted('qemu')) return present;
  const file = findCommand('qemu-system-x86_64');
  if (file) present.push(qemu(file));
  else skip('qemu', 'qemu-system-x86_64 is not installed');
  return present;
}

/** A disk may not have more queues than there are vCPUs, only the first of which runs. @param {IoRun} run */
function cpusFor({ disk }) {
  return disk?.queues ?? 1;
}

/**
 * tsvmm and Cloud Hypervisor have the same grammar.
 *
 * @param {IoRun} run
 * @param {string} [extra] options for the device under test
 */
function commonArgs(run, extra) {
  const more = extra ? `,${extra}` : '';
  const args = ['--kernel', run.guest, '--cmdline', run.commandLine];
  args.push('--memory', `size=${MEMORY_MIB}M`, '--cpus', `boot=${cpusFor(run)}`);
  args.push('--serial', 'tty', '--console', 'off');
  if (run.disk) {
    const { path: file, format, direct, queues } = run.disk;
    const words = [`path=${file}`, `image_type=${format}`, `num_queues=${queues}`];
    args.push('--disk', `${[...words, ...(direct ? ['direct=on'] : [])].join(',')}${more}`);
  }
  if (run.tap) args.push('--net', `tap=${run.tap}${more}`);
  if (run.vsock) args.push('--vsock', `cid=${GUEST_CID},socket=${run.vsock}${more}`);
  return args;
}

/**
 * @param {string} name
 * @param {string} file
 * @param {string} [devices]
 * @returns {Contender}
 */
function tsvmm(name, file, devices) {
  return { name, file, vcpu: 'vcpu', args: (run) => commonArgs(run, devices), refuses: () => undefined };
}

/**
 * @param {string} file
 * @returns {Contender}
 */
function cloudHypervisor(file) {
  return { name: 'cloud-hypervisor', file, vcpu: 'vcpu', args: commonArgs, refuses: () => undefined };
}

/**
 * @param {string} file
 * @param {'Async' | 'Sync'} [engine] for disks
 * @returns {Contender}
 */
function firecracker(file, engine) {
  return {
    name: engine ? `firecracker ${engine.toLowerCase()}` : 'firecracker',
    file,
    vcpu: 'fc_vcpu',
    args: (run) => {
      const config = path.join(run.folder, 'firecracker.json');
      fs.writeFileSync(config, JSON.stringify(firecrackerConfig(run, engine)));
      // Its log goes to the same descriptor as the guest's serial port.
      return ['--no-api', '--enable-pci', '--level', 'Off', '--config-file', config];
    },
    refuses: ({ disk }) => {
      if (disk?.direct) return 'has no O_DIRECT';
      if (disk && disk.format !== 'raw') return `has no ${disk.format}`;
      return undefined;
    },
  };
}

/**
 * @param {IoRun} run
 * @param {'Async' | 'Sync'} [engine]
 */
function firecrackerConfig(run, engine) {
  const drive = {
    drive_id: 'disk',
    path_on_host: run.disk?.path,
    is_root_device: false,
    is_read_only: false,
    ...(engine && { io_engine: engine }),
  };
  return {
    'boot-source': { kernel_image_path: run.guest, boot_args: run.commandLine },
    drives: run.disk ? [drive] : [],
    ...(run.tap && { 'network-interfaces': [{ iface_id: 'net', host_dev_name: run.tap }] }),
    ...(run.vsock && { vsock: { guest_cid: GUEST_CID, uds_path: run.vsock } }),
    'machine-config': { vcpu_count: 1, mem_size_mib: MEMORY_MIB },
  };
}

/**
 * @param {string} file
 * @returns {Contender}
 */
function qemu(file) {
  return {
    name: 'qemu',
    file,
    vcpu: 'CPU ',
    args: (run) => [
      ...['-name', 'bench,debug-threads=on', '-M', 'microvm,pcie=on', '-nodefaults', '-no-user-config'],
      // A page-table based KVM refuses MSR 0x10a, which this CPU feature makes QEMU set.
      ...[
        '-accel',
        'kvm',
        '-cpu',
        'host,-arch-capabilities',
        '-m',
        `${MEMORY_MIB}`,
        '-smp',
        `${cpusFor(run)}`,
      ],
      ...['-display', 'none', '-serial', 'stdio', '-no-reboot', '-object', 'iothread,id=io'],
      ...['-kernel', run.guest, '-append', `${run.commandLine} ${QEMU_MICROVM_OPTIONS}`],
      ...qemuDevices(run),
    ],
    refuses: ({ vsock }) => (vsock ? 'has vsock by vhost only' : undefined),
  };
}

/** @param {IoRun} run */
function qemuDevices({ disk, tap }) {
  const args = [];
  if (disk) {
    const { path: file, format, direct, queues } = disk;
    const cache = `cache.direct=${direct ? 'on' : 'off'}`;
    args.push('-drive', `file=${file},if=none,id=disk,format=${format},aio=io_uring,${cache}`);
    args.push('-device', `virtio-blk-pci,drive=disk,iothread=io,disable-legacy=on,num-queues=${queues}`);
  }
  if (tap) {
    args.push('-netdev', `tap,id=net,ifname=${tap},script=no,downscript=no,vhost=off`);
    args.push('-device', 'virtio-net-pci,netdev=net,disable-legacy=on');
  }
  return args;
}

/** How each VMM is told to run the payload guest. */
import fs from 'node:fs';
import path from 'node:path';
import { ROOT } from '../../scripts/lib/paths.mjs';

/** Guest memory in MiB, the same for every VMM. */
export const MEMORY_MIB = 512;

/** Guest memory may be mapped with neighbours of its kind: this much more still is guest memory, in bytes. */
const GUEST_MAPPING_SLACK = 16 << 20;

/** What the payload does after its line: its command line's first letter chooses. */
export const BEHAVIOUR = /** @type {const} */ ({ powerOff: 'p', idle: 'i' });

/**
 * @typedef {object} GuestRun
 * @property {string} payload path of the kernel image
 * @property {string} commandLine
 * @property {string} folder an empty folder for sockets and config files
 * @property {boolean} api open the control socket
 */

/**
 * @typedef {object} Vmm
 * @property {string} name
 * @property {string} file absolute path
 * @property {(run: GuestRun) => string[]} args
 * @property {NodeJS.ProcessEnv} [env]
 * @property {(mapping: import('./processState.mjs').Mapping) => boolean} isGuestMemory
 * @property {boolean} [isOurs]
 * @property {boolean} [slow] takes seconds: run it in few rounds only
 */

/**
 * @param {string} name
 * @param {NodeJS.ProcessEnv} [env]
 * @returns {Vmm}
 */
export function tsvmm(name, env) {
  return {
    name,
    file: path.join(ROOT, 'bin/tsvmm'),
    isOurs: true,
    ...(env && { env }),
    args: cloudHypervisorArgs,
    isGuestMemory: isOurGuestMemory,
  };
}

/**
 * All but the first 2 MiB, which are a mapping of their own and so count as the VMM's: a few hundred KiB too many.
 *
 * @param {import('./processState.mjs').Mapping} mapping
 */
export function isOurGuestMemory(mapping) {
  const size = MEMORY_MIB << 20;
  return mapping.size >= size - (2 << 20) && mapping.size <= size + GUEST_MAPPING_SLACK;
}

/** @param {import('./processState.mjs').Mapping} mapping */
function isGuestSized(mapping) {
  const size = MEMORY_MIB << 20;
  return mapping.size >= size && mapping.size <= size + GUEST_MAPPING_SLACK;
}

/**
 * tsvmm's command line has the same grammar.
 *
 * @param {GuestRun} run
 */
function cloudHypervisorArgs(run) {
  return [
    ...['--kernel', run.payload, '--cmdline', run.commandLine],
    ...['--memory', `size=${MEMORY_MIB}M`, '--cpus', 'boot=1', '--serial', 'tty', '--console', 'off'],
    ...(run.api ? ['--api-socket', path.join(run.folder, 'api.sock')] : []),
  ];
}

/**
 * @param {string} file
 * @returns {Vmm}
 */
export function cloudHypervisor(file) {
  return { name: 'cloud-hypervisor', file, args: cloudHypervisorArgs, isGuestMemory: isGuestSized };
}

/**
 * @param {string} file
 * @returns {Vmm}
 */
export function firecracker(file) {
  return {
    name: 'firecracker',
    file,
    args: (run) => {
      const config = path.join(run.folder, 'firecracker.json');
      const content = {
        'boot-source': { kernel_image_path: run.payload, boot_args: run.commandLine },
        drives: [],
        'machine-config': { vcpu_count: 1, mem_size_mib: MEMORY_MIB },
      };
      fs.writeFileSync(config, JSON.stringify(content));
      const api = run.api ? ['--api-sock', path.join(run.folder, 'api.sock')] : ['--no-api'];
      // Its log goes to the same descriptor as the guest's serial port.
      return [...api, '--level', 'Off', '--config-file', config];
    },
    isGuestMemory: isGuestSized,
  };
}

/**
 * @param {string} file
 * @param {'microvm' | 'q35'} machine
 * @param {boolean} [slow]
 * @returns {Vmm}
 */
export function qemu(file, machine, slow = false) {
  return {
    name: `qemu ${machine}`,
    file,
    slow,
    args: (run) => [
      // A page-table based KVM refuses MSR 0x10a, which this CPU feature makes QEMU set.
      ...['-M', machine, '-accel', 'kvm', '-cpu', 'host,-arch-capabilities', '-m', `${MEMORY_MIB}`],
      ...['-smp', '1', '-kernel', run.payload, '-append', run.commandLine, '-nodefaults', '-no-user-config'],
      ...['-display', 'none', '-serial', 'stdio', '-no-reboot'],
      ...(run.api ? ['-qmp', `unix:${path.join(run.folder, 'api.sock')},server=on,wait=off`] : []),
    ],
    isGuestMemory: isGuestSized,
  };
}

/** Suggestions for options and values that were refused. Loaded only then. */
import type { Subject } from '../config/configError.ts';
import { nearest } from '../config/nearest.ts';
import { GIB, KIB, TIB } from '../config/units.ts';
import { processFlags, vmFlags } from './flags.ts';

/** Options of other tools (QEMU, Firecracker, crosvm, kvmtool), and ours for the same. */
const habits: Readonly<Record<string, readonly string[]>> = {
  '--initramfs PATH': ['-initrd', '--initrd', '-i', '--initrd-path'],
  '--cmdline TEXT': ['-append', '--append', '-p', '--params', '--kernel-cmdline', '--boot-args'],
  '--kernel PATH': ['-kernel', '-k', '--kernel-path', '--kernel-image-path'],
  '--firmware PATH': ['-bios', '--bios', '-pflash', '--uefi'],
  '--memory size=512M': ['-m', '-mem', '--mem', '--ram', '--mem-size-mib'],
  '--cpus boot=2': ['-smp', '--smp', '-c', '-cpus', '--vcpus', '--vcpu-count', '--cpu'],
  '--disk path=PATH,image_type=raw': [
    ...['-drive', '--drive', '-hda', '--hda', '-hdb', '-blockdev', '--blockdev', '--block', '-d', '--disks'],
    ...['--rwdisk', '--root', '--rwroot', '-disk'],
  ],
  '--disk path=PATH,image_type=raw,readonly=on': ['-cdrom', '--cdrom', '--rodisk'],
  '--net user, or --net tap=NAME': [
    '-nic',
    '--nic',
    '-netdev',
    '--netdev',
    '-net',
    '--network',
    '-n',
    '--tap-name',
  ],
  '--console off --serial tty': ['-nographic', '--nographic', '-serial', '--stdio'],
  '--api-socket path=PATH': ['-monitor', '--monitor', '-qmp', '--qmp', '--api-sock', '-s', '--socket'],
  '--fs tag=TAG,socket=PATH': ['-virtfs', '--virtfs', '--shared-dir', '--9p', '-fsdev'],
  '--gdb path=PATH': ['-gdb'],
  '--debug-console file=PATH': ['-debugcon', '--debugcon'],
  '--platform system_uuid=UUID': ['-uuid', '--uuid', '-smbios', '--smbios'],
  'nothing: KVM is always used': [
    '-enable-kvm',
    '--enable-kvm',
    '-accel',
    '--accel',
    '-cpu',
    '-machine',
    '-M',
  ],
  '--api-socket path=PATH and the request vm.create': ['--config-file', '--config', '-readconfig'],
};

/** Beyond what sizes take, as multiples of G. */
const LARGE_UNITS: Readonly<Record<string, number>> = { T: TIB / GIB, P: (TIB / GIB) ** 2 };

/** A phrase that goes on with the message, or nothing. */
export function advice(subject: Subject | undefined): string {
  switch (subject?.kind) {
    case 'flag':
      return adviceOnFlag(subject.given);
    case 'name':
      return suggest(nearest(subject.given, subject.known));
    case 'size':
      return adviceOnSize(subject.given);
    default:
      return '';
  }
}

function adviceOnFlag(given: string): string {
  for (const ours in habits) if (habits[ours]?.includes(given)) return `; here it is ${ours}`;
  const name = nearest(given.replace(/^--?/, ''), [...Object.keys(vmFlags()), ...Object.keys(processFlags)]);
  return suggest(name && `--${name}`);
}

function suggest(name: string | undefined): string {
  return name === undefined ? '' : `; did you mean "${name}"?`;
}

/** `1T`, `1.5G`, `512MB`, `2GiB`, `512m`: in the units that there are. */
function adviceOnSize(given: string): string {
  const [, digits, fraction = '', unit] = /^(\d+)(\.\d+)? ?([KMGTP])(?:i?B)?$/i.exec(given) ?? [];
  if (digits === undefined || unit === undefined) return '';
  const letter = unit.toUpperCase();
  const value = Number(digits + fraction) * (LARGE_UNITS[letter] ?? 1);
  const kept = letter in LARGE_UNITS ? 'G' : letter;
  if (Number.isInteger(value)) return `: write ${value}${kept}`;
  const smaller = { G: 'M', M: 'K', K: '' }[kept] ?? '';
  return `: write ${Math.round(value * KIB)}${smaller}`;
}

/**
 * Every kind of mistake and what a person reads then: the words of a command line, the sentence, the exit code. To be
 * read from top to bottom now and then, by somebody who is new.
 */
import { describe, expect, it } from 'vitest';
import { advice } from '../../../src/cli/advice.ts';
import { parseArguments } from '../../../src/cli/arguments.ts';
import { UsageError } from '../../../src/cli/usageError.ts';
import { checkBootable } from '../../../src/config/bootable.ts';
import { ConfigError } from '../../../src/config/configError.ts';
import { validateVmConfig } from '../../../src/config/validate.ts';

/** What is printed for words and the exit code, as `src/bin/tsvmm.ts` does it, without opening anything. */
function answer(line: string): [sentence: string, code: number] {
  const words = (line.match(/(?:"[^"]*"|[^\s"])+/g) ?? []).map((word) => word.replaceAll("'", '"'));
  try {
    const invocation = parseArguments(words);
    if (invocation.action === 'run' && invocation.options.vm) {
      validateVmConfig(invocation.options.vm);
      checkBootable(invocation.options.vm);
    }
    return ['', 0];
  } catch (error) {
    if (!(error instanceof UsageError) && !(error instanceof ConfigError)) throw error;
    return [error.message + advice(error.subject), error instanceof UsageError ? 2 : 1];
  }
}

type Row = readonly [words: string, sentence: string, code: 0 | 1 | 2];

/** Options that the grammar refuses. */
const grammar: readonly Row[] = [
  ['', 'nothing to do: give --kernel, --firmware or --api-socket', 2],
  ['--frobnicate', "unknown flag '--frobnicate'", 2],
  ['--kernal k', `unknown flag '--kernal'; did you mean "--kernel"?`, 2],
  ['--initramsf i', `unknown flag '--initramsf'; did you mean "--initramfs"?`, 2],
  ['--api_socket s', `unknown flag '--api_socket'; did you mean "--api-socket"?`, 2],
  ['vmlinuz', "unexpected argument 'vmlinuz'", 2],
  ['--kernel', '--kernel needs a value', 2],
  ['--kernel a --kernel b', '--kernel was given more than once', 2],
  ['--watchdog=on --kernel k', '--watchdog takes no value', 2],
  ['--memory size=1G', '--memory needs --kernel or --firmware', 2],
  ['--dbus-object-path /x', '--dbus-object-path is not supported', 2],
];

/** Options of other tools. */
const habits: readonly Row[] = [
  ['--initrd i', "unknown flag '--initrd'; here it is --initramfs PATH", 2],
  ['-initrd i', "unknown flag '-initrd'; here it is --initramfs PATH", 2],
  ['--append quiet', "unknown flag '--append'; here it is --cmdline TEXT", 2],
  ['-kernel k', "unknown flag '-kernel'; here it is --kernel PATH", 2],
  ['-m 512', "unknown flag '-m'; here it is --memory size=512M", 2],
  ['-smp 2', "unknown flag '-smp'; here it is --cpus boot=2", 2],
  ['--drive file=d', "unknown flag '--drive'; here it is --disk path=PATH,image_type=raw", 2],
  ['-hda d', "unknown flag '-hda'; here it is --disk path=PATH,image_type=raw", 2],
  ['-cdrom d', "unknown flag '-cdrom'; here it is --disk path=PATH,image_type=raw,readonly=on", 2],
  ['-nic user', "unknown flag '-nic'; here it is --net user, or --net tap=NAME", 2],
  ['-nographic', "unknown flag '-nographic'; here it is --console off --serial tty", 2],
  ['-enable-kvm', "unknown flag '-enable-kvm'; here it is nothing: KVM is always used", 2],
  ['-bios f', "unknown flag '-bios'; here it is --firmware PATH", 2],
  ['--api-sock s', "unknown flag '--api-sock'; here it is --api-socket path=PATH", 2],
  [
    '--config-file c',
    "unknown flag '--config-file'; here it is --api-socket path=PATH and the request vm.create",
    2,
  ],
];

/** Values, with `--kernel k` before them. */
const values: readonly Row[] = [
  ['--memory 512M', '--memory: unknown option "512M": write size=512M if that is what is meant', 1],
  [
    '--memory size=512',
    'The memory: the size 512 is not a multiple of 4096 bytes; sizes are in bytes unless a K, M or G follows: 512M',
    1,
  ],
  ['--memory size=1T', '--memory: size: "1T" is not a size such as 512M: write 1024G', 1],
  ['--memory size=512MB', '--memory: size: "512MB" is not a size such as 512M: write 512M', 1],
  ['--memory size=512m', '--memory: size: "512m" is not a size such as 512M: write 512M', 1],
  ['--memory size=2GiB', '--memory: size: "2GiB" is not a size such as 512M: write 2G', 1],
  ['--memory size=1.5G', '--memory: size: "1.5G" is not a size such as 512M: write 1536M', 1],
  ['--memory size=lots', '--memory: size: "lots" is not a size such as 512M', 1],
  ['--memory size=', '', 0],
  ['--memory hugepage=on', '--memory: unknown option "hugepage"; did you mean "hugepages"?', 1],
  ['--memory hugepage_size=2M', 'The memory: hugepage_size needs hugepages=on', 1],
  ['--memory-zone id=a,size=1G', 'With memory zones, the memory size must be 0: the zones have sizes', 1],
  ['--cpus 2', '--cpus: unknown option "2": write boot=2 if that is what is meant', 1],
  ['--cpus boot=0', 'The number of vCPUs must be at least 1', 1],
  ['--cpus boot=two', '--cpus: boot: "two" is not an unsigned integer', 1],
  ['--cpus boot=-1', '--cpus: boot: "-1" is not an unsigned integer', 1],
  ['--cpus boot=2,max=1', 'boot_vcpus (2) is greater than max_vcpus (1)', 1],
  [
    '--cpus topology=1:2',
    '--cpus: topology: "1:2" is not 4 numbers with colons between: threads_per_core:cores_per_die:dies_per_package:packages',
    1,
  ],
  ['--disk root.img', '--disk: unknown option "root.img": write path=root.img if that is what is meant', 1],
  ['--disk file=root.img', '--disk: unknown option "file"', 1],
  ['--disk path=d,readOnly=on', '--disk: unknown option "readOnly"; did you mean "readonly"?', 1],
  ['--disk path=d,readonly', '--disk: "readonly" needs a value: readonly=...', 1],
  ['--disk path=d,readonly=yes', '--disk: readonly: "yes" is neither on nor off', 1],
  [
    '--disk path=d,image_type=qcow',
    '--disk: image_type: "qcow" is none of raw, qcow2, vhd, vhdx, vmdk, unknown; did you mean "qcow2"?',
    1,
  ],
  [
    '--disk path=d,queue_size=100',
    'The disk d has queue_size 100, which is not a power of two from 4 to 32768',
    1,
  ],
  ['--disk path=d,serial=123456789012345678901', 'The disk d has a serial number of more than 20 bytes', 1],
  ['--disk path=a,id=x path=b,id=x', 'Identifier x is not unique', 1],
  ['--disk path=d,', '--disk: there is an option without a name in "path=d,", at a comma or an =', 1],
  ["--disk path='d", `--disk: a quote is not closed in "path="d"`, 1],
  ['--net tap=t0,', '--net: there is an option without a name in "tap=t0,", at a comma or an =', 1],
  [
    '--net tap=t0,,mtu=1500',
    '--net: there is an option without a name in "tap=t0,,mtu=1500", at a comma or an =',
    1,
  ],
  ['--net =t0', '--net: there is an option without a name in "=t0", at a comma or an =', 1],
  ['--net tap0', '--net: unknown option "tap0": write tap=tap0 if that is what is meant', 1],
  [
    '--net mac=01:00:5e:00:00:01',
    'The network device has 01:00:5e:00:00:01 for a MAC address, which is one of a group: write 00:00:5e:00:00:01',
    1,
  ],
  [
    '--net mac=ff:ff:ff:ff:ff:ff',
    'The network device has ff:ff:ff:ff:ff:ff for a MAC address, which is one of a group: write fe:ff:ff:ff:ff:ff',
    1,
  ],
  [
    '--net mac=2e-00-00-00-00-01',
    'net[0].mac: invalid value "2e-00-00-00-00-01", expected one like 12:34:56:78:90:ab',
    1,
  ],
  [
    '--net user,forward=[2222:22]',
    'The port forward "2222:22" is not like tcp:2222:22 or udp:192.0.2.1:5353:53',
    1,
  ],
  ['--serial stdio', '--serial: "stdio" is none of off, null, pty, tty, file=PATH, socket=PATH', 1],
  ['--serial file', '--serial: "file" is none of off, null, pty, tty, file=PATH, socket=PATH', 1],
  ['--net toString', '--net: unknown option "toString": write tap=toString if that is what is meant', 1],
  ['--disk constructor=1', '--disk: unknown option "constructor"', 1],
  ['--serial valueOf', '--serial: "valueOf" is none of off, null, pty, tty, file=PATH, socket=PATH', 1],
  ['--serial tty', '', 0],
  ['--console socket=s', '--console: "socket=s" is none of off, null, pty, tty, file=PATH', 1],
  [
    '--debug-console file=f,iobase=1026',
    '--debug-console: iobase: "1026" is not a number that starts with 0x',
    1,
  ],
  ['--vsock cid=2,socket=s', 'The vsock cid 2 is reserved', 1],
  ['--vsock cid=3', 'vsock: missing field `socket`', 1],
  ['--balloon size=1G', "The balloon's size 1073741824 must be below the memory's, 536870912 bytes", 1],
  ['--firmware f', 'Firmware and kernel are exclusive: give one of them', 1],
  ['--seccomp log', '--seccomp log is not supported yet, only --seccomp false', 1],
  ['--seccomp maybe', '--seccomp: "maybe" is none of true, false, log, errno', 2],
  ['--api-socket path=', '--api-socket needs a path', 1],
  ['--api-socket fd=x', '--api-socket: "x" is not an unsigned integer', 1],
  [
    '--fs tag=t,socket=s',
    'The file system t is served by vhost-user, which needs --memory shared=on or hugepages=on',
    1,
  ],
  ['--fs tag=t,socket=s --memory shared=on', 'fs is not supported yet', 1],
  ['--device path=/sys/d', 'devices is not supported yet', 1],
  ['--landlock', 'landlock_enable is not supported yet', 1],
  ['--platform num_pci_segments=97', 'platform.num_pci_segments is 97: there can be 1 to 96 PCI segments', 1],
];

describe('what is refused by the grammar', () => {
  it.each([...grammar, ...habits])('%s', (words, sentence, code) => {
    expect(answer(words)).toEqual([sentence, code]);
  });
});

describe('values that are refused', () => {
  it.each(values)('%s', (words, sentence, code) => {
    expect(answer(`--kernel k ${words}`)).toEqual([sentence, code]);
  });
});

import { expect, test } from 'vitest';
import { parseArguments } from '../../../src/cli/arguments.ts';
import { absolutePaths } from '../../../src/cli/vms/machinePaths.ts';
import type { VmConfig } from '../../../src/config/vmConfig.ts';

function machine(...args: string[]): VmConfig {
  const invocation = parseArguments(args);
  if (invocation.action !== 'run' || !invocation.options.vm) throw new Error('no machine');
  return invocation.options.vm;
}

test('every file and socket of a machine is where the words were typed', () => {
  const vm = machine(
    ...[
      '--kernel',
      'k',
      '--initramfs',
      '/boot/i',
      '--disk',
      'path=d',
      'path=/abs',
      '--pmem',
      'file=p,size=2M',
    ],
    ...['--vsock', 'cid=3,socket=v', '--rng', 'src=r', '--serial', 'file=s', '--console', 'pty,log=l'],
    ...[
      '--debug-console',
      'file=e',
      '--memory',
      'size=0',
      '--memory-zone',
      'id=a,size=1G,file=m',
      'id=b,size=1G',
    ],
  );
  expect(absolutePaths(vm, '/home/me')).toMatchObject({
    payload: { kernel: '/home/me/k', initramfs: '/boot/i' },
    disks: [{ path: '/home/me/d' }, { path: '/abs' }],
    pmem: [{ file: '/home/me/p' }],
    memory: { zones: [{ id: 'a', file: '/home/me/m' }, { id: 'b' }] },
    vsock: { socket: '/home/me/v' },
    rng: { src: '/home/me/r' },
    serial: { mode: 'File', file: '/home/me/s' },
    console: { mode: 'Pty', log: '/home/me/l' },
    debug_console: { mode: 'File', file: '/home/me/e' },
  });
});

test('nothing is added to a machine', () => {
  const vm = machine('--kernel', '/k');
  expect(absolutePaths(vm, '/home/me')).toEqual(vm);
});

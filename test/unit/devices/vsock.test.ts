import { describe, expect, it } from 'vitest';
import { parseArguments } from '../../../src/cli/arguments.ts';
import { decode } from '../../../src/config/decode.ts';
import { validateVmConfig } from '../../../src/config/validate.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';

function check(vsock: object): void {
  validateVmConfig(decode(vmConfig, { payload: { kernel: '/k' }, vsock }));
}

describe('vsock', () => {
  it.each([{ cid: 3 }, { cid: 0xffff_fffe }, { cid: 3, id: 'sockets', pci_device_id: 31 }])(
    'accepts %j',
    (extra) => {
      expect(() => check({ socket: '/s', ...extra })).not.toThrow();
    },
  );

  it.each([0, 1, 2, 0xffff_ffff])('cid %i is reserved', (cid) => {
    expect(() => check({ cid, socket: '/s' })).toThrow(`The vsock cid ${cid} is reserved`);
  });

  it('needs a socket', () => {
    expect(() => check({ cid: 3, socket: '' })).toThrow('A vsock needs a socket');
    expect(() => check({ cid: 3 })).toThrow(/socket/);
    expect(() => check({ socket: '/s' })).toThrow(/cid/);
  });

  it('shares identifiers and slots with other devices', () => {
    expect(() => check({ cid: 3, socket: '/s', id: '__x' })).toThrow('must not start with __');
    const disks = [{ path: '/d', id: 'a', pci_device_id: 4 }];
    const both = (vsock: object) =>
      validateVmConfig(decode(vmConfig, { payload: { kernel: '/k' }, disks, vsock }));
    expect(() => both({ cid: 3, socket: '/s', id: 'a' })).toThrow('not unique');
    expect(() => both({ cid: 3, socket: '/s', pci_device_id: 4 })).toThrow('given to two devices');
  });

  it('is given on the command line', () => {
    const parsed = parseArguments(['--kernel', '/k', '--vsock', 'cid=3,socket=/run/vm.vsock']);
    expect(parsed).toMatchObject({ options: { vm: { vsock: { cid: 3, socket: '/run/vm.vsock' } } } });
    expect(() => parseArguments(['--kernel', '/k', '--vsock', 'cid=3'])).toThrow(/socket/);
    expect(() => parseArguments(['--kernel', '/k', '--vsock', 'cid=x,socket=/s'])).toThrow(/cid/);
  });
});

import { describe, expect, it } from 'vitest';
import { decode } from '../../../src/config/decode.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';
import { consoleAdvice } from '../../../src/vmm/shownConsole.ts';

function advice(cmdline: string | undefined, console: string, serial: string): string | undefined {
  const config = { payload: { kernel: '/k', cmdline }, console: { mode: console }, serial: { mode: serial } };
  return consoleAdvice(decode(vmConfig, config));
}

describe('a command line and what is shown', () => {
  it.each([
    ['console=hvc0', 'Tty', 'Null'],
    ['root=/dev/vda console=tty0 console=ttyS0,115200n8', 'Off', 'Tty'],
    ['console=uart8250,io,0x3f8', 'Off', 'File'],
    ['console=ttyS0', 'Pty', 'Socket'],
    [undefined, 'Off', 'Null'],
  ])('%s goes with console %s and serial %s', (cmdline, console, serial) => {
    expect(advice(cmdline, console, serial)).toBeUndefined();
  });

  it.each([
    [
      undefined,
      'Tty',
      'Null',
      'no console: nothing will be seen of the kernel on --console without console=hvc0',
    ],
    [
      'quiet',
      'Off',
      'File',
      'no console: nothing will be seen of the kernel on --serial without console=ttyS0',
    ],
    ['console=ttyS0', 'Tty', 'Null', 'console=ttyS0, which is not shown: nothing will be seen'],
    ['console=hvc0', 'Off', 'Tty', 'console=hvc0, which is not shown: nothing will be seen'],
  ])('%s does not go with console %s and serial %s', (cmdline, console, serial, text) => {
    expect(advice(cmdline, console, serial)).toContain(`The kernel command line names ${text}`);
  });
});

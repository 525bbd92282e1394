/** The options of `tsvmm console`, for parsing, help, manual page and completions. */
import { optionEntries } from '../help.ts';

const text = { type: 'string' } as const;
const flag = { type: 'boolean', value: '' } as const;

export const consoleOptions = {
  dir: {
    ...text,
    value: 'DIR',
    help: "Of the supervisor, where the VM is named by NAME (TSVMM_DIR; root's, or the user's own)",
  },
  'api-socket': { ...text, value: 'PATH', help: 'The VM that has this REST socket' },
  socket: { ...text, value: 'PATH', help: 'A serial port that is a socket (--serial socket=PATH)' },
  pty: { ...text, value: 'PATH', help: 'A pseudo terminal, as the info of a VM names it' },
  serial: { ...flag, help: 'The serial port' },
  console: { ...flag, help: 'The virtio console; without either, the one that the kernel says most on' },
  'read-only': {
    ...flag,
    help: 'Only look, also while others are attached to a socket; Ctrl-C detaches, too',
  },
  escape: { ...text, value: 'KEY', help: 'The one key that detaches, such as ^T, or none (^], and ^A x)' },
  help: { ...flag, short: 'h', help: 'Print this help' },
} as const;

export function consoleHelp(): string {
  return [
    "tsvmm console attaches to a guest's console or serial port.",
    '',
    'Usage: tsvmm console [--serial | --console] [--read-only] ([--dir DIR] NAME | --api-socket PATH)',
    '       tsvmm console [--read-only] (--socket PATH | --pty PATH)',
    '',
    ...optionEntries(consoleOptions),
    '',
    'Ctrl-] or Ctrl-A x detaches, and leaves the VM as it is; Ctrl-A Ctrl-A is one Ctrl-A for the guest. What comes by a',
    'pipe is sent as it is. A guest that reboots is attached to again.',
    '',
    'A port that is a socket has one client that types, the last that came, and any number of readers (--read-only). A',
    'reader that is slow misses what is old; neither the guest nor the others wait for it.',
    '',
  ].join('\n');
}

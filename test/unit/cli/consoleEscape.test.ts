import { describe, expect, it } from 'vitest';
import { DEFAULT_ESCAPE, EscapeKeys, parseEscape } from '../../../src/cli/console/escapeKeys.ts';
import { choosePort } from '../../../src/cli/console/target.ts';
import { decode } from '../../../src/config/decode.ts';
import { vmConfig } from '../../../src/config/vmConfig.ts';

/** What the guest gets of keys that come in these pieces, up to the escape. */
function typed(pieces: readonly string[], setting = DEFAULT_ESCAPE): [string, boolean] {
  const keys = new EscapeKeys(setting);
  let guest = '';
  for (const piece of pieces) {
    const bytes = keys.take(Buffer.from(piece, 'latin1'));
    if (bytes === undefined) return [guest, true];
    guest += Buffer.from(bytes).toString('latin1');
  }
  return [guest, false];
}

describe('keys', () => {
  it.each([
    [['ls\r'], 'ls\r', false],
    [['\x01', 'x'], '', true],
    [['a\x01X'], '', true],
    [['\x01\x01'], '\x01', false],
    [['\x01', '\x01', 'x'], '\x01x', false],
    [['\x01c'], '\x01c', false],
    [['b', '\x1d'], 'b', true],
    [['\x01\x1d'], '\x01\x1d', false],
    [['\x03\x1a\xff'], '\x03\x1a\xff', false],
  ])('%j', (pieces, guest, detached) => {
    expect(typed(pieces)).toEqual([guest, detached]);
  });

  it('can be others, or none', () => {
    const other = parseEscape('^t');
    expect(other).toEqual({ key: 0x14, text: 'Ctrl-T detaches' });
    expect(typed(['\x01x\x1d', '\x14'], other)).toEqual(['\x01x\x1d', true]);
    expect(typed(['\x01x\x1d\x14'], parseEscape('none'))).toEqual(['\x01x\x1d\x14', false]);
    expect(parseEscape('^]')?.key).toBe(0x1d);
    for (const wrong of ['', 'x', '^', '^1', '^ab']) expect(parseEscape(wrong)).toBeUndefined();
  });
});

describe('the port of a VM', () => {
  const config = (more: object) =>
    decode(vmConfig, { payload: { kernel: 'k', cmdline: 'console=ttyS0' }, ...more });
  const serial = { mode: 'Socket', socket: 's' };
  const console = { mode: 'Pty', file: '/dev/pts/1' };

  it('is the one of the kernel, if that can be attached to, else the other', () => {
    expect(choosePort(config({ serial, console }), undefined, 'vm')).toBe('serial');
    expect(choosePort(config({ serial, console, payload: { kernel: 'k' } }), undefined, 'vm')).toBe(
      'console',
    );
    expect(choosePort(config({ console }), undefined, 'vm')).toBe('console');
    expect(choosePort(config({ serial, console }), 'console', 'vm')).toBe('console');
  });

  it.each([
    [
      { serial: { mode: 'File', file: 'log' }, console: { mode: 'Off' } },
      /serial port goes into the file log, its console is off/,
    ],
    [
      { serial: { mode: 'Null' }, console: { mode: 'Tty' } },
      /serial port goes nowhere, its console is the terminal of/,
    ],
    [{ serial: { mode: 'Pty' }, console: { mode: 'Off' } }, /is not open yet/],
  ])('is none where %j', (more, text) => {
    expect(() => choosePort(config(more), undefined, 'web')).toThrow(text);
  });

  it('is none where another is asked for', () => {
    expect(() => choosePort(config({ serial, console: { mode: 'Off' } }), 'console', 'web')).toThrow(
      'Nobody can be attached to web: its console is off',
    );
  });
});

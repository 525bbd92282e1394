import { expect, test } from 'vitest';
import { absolute, parseVmhostArguments } from '../../../../src/api/vmhost/arguments.ts';

const PLACE = ['--backend', 'tsvmm', '--config-dir', '/dir'];

test('values stand behind their option or after an equals sign; the last one counts', () => {
  const switches = ['--paused', '--api-strict'];
  const words = ['--name=a', '--name', 'b=c', '--api-socket=x=y', '--supervisor', '/s', ...switches];
  expect(parseVmhostArguments([...words, ...PLACE])).toEqual({
    name: 'b=c',
    apiSocket: 'x=y',
    supervisor: '/s',
    configDir: '/dir',
    paused: true,
    apiStrict: true,
    endOn: [],
  });
});

test('folders and sockets that are not absolute begin in the working directory', () => {
  const words = ['--supervisor', 's.sock', '--backend=tsvmm', '--config-dir', 'd', '--end-on=reset,panic'];
  expect(parseVmhostArguments(words)).toEqual({
    supervisor: `${process.cwd()}/s.sock`,
    configDir: `${process.cwd()}/d`,
    paused: false,
    apiStrict: false,
    endOn: ['reset', 'panic'],
  });
  expect(absolute('/vms/a', 'api.sock')).toBe('/vms/a/api.sock');
  expect(absolute('/vms/a', '/run/api.sock')).toBe('/run/api.sock');
});

test.each([['--help'], ['-h']])('%s asks for help, whatever else is there', (word) => {
  expect(parseVmhostArguments(['--name', 'x', word])).toBeUndefined();
});

test.each<[readonly string[], RegExp]>([
  [['--config-dir', '/d', '--backend', 'tsvmm'], /needs --name and --config-dir/],
  [['--name', 'x', '--backend', 'tsvmm'], /needs --name and --config-dir/],
  [['--name', 'x', '--config-dir', '/d'], /no backend ""/],
  [['--name', 'x', '--config-dir', '/d', '--backend=qemu'], /no backend "qemu", only tsvmm/],
  [[...PLACE, '--name'], /--name needs a value/],
  [[...PLACE, '--paused=yes'], /--paused takes no value/],
  [['--name=x', ...PLACE, '--end-on', 'reset,lunch'], /--end-on lunch: reset, panic/],
  [[...PLACE, '--nonsense'], /does not know "--nonsense"/],
  [[...PLACE, 'word'], /does not know "word"/],
  [[...PLACE, '--'], /does not know "--"/],
])('%j is refused', (args, message) => {
  expect(() => parseVmhostArguments(args)).toThrow(message);
});

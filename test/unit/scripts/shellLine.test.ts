import { execFileSync } from 'node:child_process';
import { expect, test } from 'vitest';
import { shellLine, vmmCommand } from '../../../scripts/demo/command.mjs';

function wordsThatTheShellReads(line: string): string[] {
  return execFileSync('sh', ['-c', `printf '%s\\n' ${line}`], { encoding: 'utf8' })
    .split('\n')
    .slice(0, -1);
}

test("a line that is copied into a shell has the command's words", () => {
  const words = [
    'a b',
    "it's",
    '',
    '$HOME',
    '[tcp:2222:22]',
    'a;b',
    '*',
    '~',
    '"',
    '\\',
    'path=/x,y=z',
    '--option',
  ];
  expect(wordsThatTheShellReads(shellLine(words))).toEqual(words);
});

test("the demo's command is read as it was printed", () => {
  const command = vmmCommand({ root: '/a b', files: '/g', disk: '/d.img', network: true });
  expect(wordsThatTheShellReads(shellLine(command))).toEqual(command);
  expect(command).toContain('console=ttyS0 root=/dev/vda');
});

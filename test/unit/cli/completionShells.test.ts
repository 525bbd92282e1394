/** Completions in the shells themselves: what each offers where a person presses Tab. */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { completions } from '../../../src/cli/completions.ts';

let folder = '';

/** A tsvmm that knows the names of VMs, and is found first. */
const STUB = '#!/bin/sh\n[ "$1" = ps ] || exit 1\necho web\n[ "$4" = --dir ] && echo "in$5"\nexit 0\n';

beforeAll(() => {
  folder = fs.mkdtempSync(path.join(os.tmpdir(), 'tsvmm-completions-'));
  fs.writeFileSync(path.join(folder, 'tsvmm'), STUB, { mode: 0o755 });
  fs.mkdirSync(path.join(folder, 'zsh'));
  fs.writeFileSync(path.join(folder, 'zsh/_tsvmm'), completions('zsh'));
  fs.writeFileSync(path.join(folder, 'inner.zsh'), ZSH_INNER);
  for (const shell of ['bash', 'fish']) fs.writeFileSync(path.join(folder, shell), completions(shell));
});

afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

function run(shell: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): string {
  const { stdout, stderr, error } = spawnSync(shell, args, {
    encoding: 'utf8',
    env: { ...process.env, PATH: `${folder}:${process.env.PATH}`, HOME: folder, ...env },
  });
  if (error) throw error;
  expect(stderr).toBe('');
  return stdout;
}

function fromBash(line: string): string[] {
  const script = `compopt() { :; }; source "$1"; COMP_LINE="$2" COMP_POINT=\${#2}; _tsvmm; printf '%s\\n' "\${COMPREPLY[@]}"`;
  return run('bash', ['-c', script, 'bash', `${folder}/bash`, line]).split('\n');
}

function fromFish(line: string): string[] {
  const script = `source ${folder}/fish; complete -C '${line}'`;
  return run('fish', ['--private', '--no-config', '-c', script])
    .split('\n')
    .map((one) => one.replace(/\t.*/, ''));
}

/** Writes down what is offered, and when it is ready for a line and done with it. */
const ZSH_INNER = `PROMPT='' RPROMPT=''
[[ -n $AUTOLOAD ]] && fpath=($FOLDER/zsh $fpath)
autoload -U compinit; compinit -D -u
[[ -z $AUTOLOAD ]] && source $FOLDER/zsh/_tsvmm
compadd() {
  if [[ \${@[1,(i)(-|--)]} == *-(O|A|D)\\ * ]]; then builtin compadd "$@"; return $?; fi
  typeset -a hits
  builtin compadd -A hits "$@"
  builtin compadd "$@"
  print -rl -- $hits >> $OUT
}
finished() { print DONE >> $OUT; exit }
zle -N finished
bindkey '^X' finished
bindkey '^I' complete-word
print READY >> $OUT
`;

/** Types the line and Tab in an interactive shell at a pseudo terminal. */
const ZSH_OUTER = `zmodload zsh/zpty
integer i
wait_for() { until grep -q $1 $OUT || (( i++ > 1200 )); do sleep 0.05; zpty -r z ignored 2>/dev/null; done }
: > $OUT
zpty -b z env TERM=dumb zsh -f -i
zpty -w z "source $FOLDER/inner.zsh"
wait_for READY
zpty -n -w z "$1"$'\\t\\x18'
wait_for DONE
zpty -d z
`;

function fromZsh(line: string, autoload = ''): string[] {
  const out = path.join(folder, 'out');
  run('zsh', ['-f', '-c', ZSH_OUTER, 'zsh', line], { OUT: out, FOLDER: folder, AUTOLOAD: autoload });
  return fs.readFileSync(out, 'utf8').split('\n');
}

/** [line, what is offered among others, what is not]. */
const offers: readonly (readonly [line: string, yes: readonly string[], no: readonly string[]])[] = [
  ['tsvmm c', ['ctl', 'console', 'create'], ['ps']],
  ['tsvmm ctl ', ['web', 'add-disk', 'watch', 'shutdown-vmm'], ['--kernel', 'ctl']],
  ['tsvmm ctl --dir /x ', ['in/x', 'info'], []],
  ['tsvmm ctl --api-socket /s ', ['info'], ['web']],
  ['tsvmm ctl web re', ['resize', 'resize-disk', 'reboot'], ['web', 'pause']],
  ['tsvmm ctl web resize --', ['--cpus', '--memory', '--json'], ['--disk', '--kernel']],
  ['tsvmm ctl web pause ', [], ['web', 'pause', 'info']],
  ['tsvmm console --r', ['--read-only'], ['--kernel']],
  ['tsvmm console ', ['web'], ['info']],
  ['tsvmm stop ', ['web'], []],
  ['tsvmm stop --f', ['--force'], ['--firmware']],
  ['tsvmm run --ker', ['--kernel'], []],
  ['tsvmm --mem', ['--memory', '--memory-zone'], []],
];

/** Keys of option strings: shells differ in how much of the word they show. */
const keys: readonly (readonly [line: string, end: RegExp])[] = [
  ['tsvmm ctl web add-disk rea', /readonly/],
  ['tsvmm ctl web restore source', /source_url/],
  ['tsvmm --disk rea', /readonly/],
];

const has = (shell: string) => spawnSync(shell, ['--version']).status === 0;

describe.each([
  ['bash', fromBash],
  ['fish', fromFish],
  ['zsh', fromZsh],
] as const)('%s', (shell, offered) => {
  if (!has(shell)) console.log(`skipped: ${shell} is not installed (Debian: ${shell})`);
  const check = it.skipIf(!has(shell));

  check.each(offers)('after "%s"', (line, yes, no) => {
    const words = offered(line);
    expect(words).toEqual(expect.arrayContaining([...yes]));
    for (const word of no) expect(words).not.toContain(word);
  });

  check.each(keys)('after "%s"', (line, end) => {
    expect(offered(line).some((word) => end.test(word))).toBe(true);
  });

  check('files where a path is', () => {
    for (const line of [
      'tsvmm ctl --api-socket /etc/pass',
      'tsvmm ctl web create /etc/pass',
      'tsvmm --kernel /etc/pass',
    ]) {
      expect(
        offered(line).some((word) => /^(\/etc\/)?passwd$/.test(word)),
        line,
      ).toBe(true);
    }
  });
});

it.skipIf(!has('zsh'))('zsh finds it in $fpath', () => {
  expect(fromZsh('tsvmm ctl web re', 'yes')).toContain('resize-disk');
});

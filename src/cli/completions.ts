/** Completions for shells, written from the manual. Loaded only when asked for. */
import { type ManualCommand, manualCommands } from './commandManual.ts';
import { type ManualKey, type ManualOption, manual } from './manual.ts';
import { UsageError } from './usageError.ts';

type Writer = (options: readonly ManualOption[], commands: readonly ManualCommand[]) => string;

const shells: Readonly<Record<string, Writer>> = {
  bash,
  zsh,
  fish,
};

/** @throws UsageError for a shell that is not known */
export function completions(shell: string): string {
  const write = Object.hasOwn(shells, shell) ? shells[shell] : undefined;
  if (write === undefined) {
    throw new UsageError(`--completions: "${shell}" is none of ${Object.keys(shells).join(', ')}`);
  }
  return write(
    manual().flatMap(({ options }) => options),
    manualCommands(),
  );
}

/** What may follow an option's name: the keys of its option string, or the words that it lists. */
function wordsAfter({ value, keys }: ManualOption): string[] {
  const listed = /[a-z|]\|/.test(value) ? value.split('|').map((word) => word.replace(/=.*/, '=')) : [];
  return [...listed, ...keys.map(({ key }) => `${key}=`)];
}

/** Words from which one is chosen after `key=`. */
function choices(value: string): string[] {
  return value.includes('|') ? value.split('|') : [];
}

function takesPath({ value }: ManualOption): boolean {
  return value === 'PATH';
}

/** The names with their dashes. */
function names(options: readonly { readonly name: string; readonly short?: string }[]): string[] {
  return options.flatMap(({ name, short }) => (short ? [`--${name}`, `-${short}`] : [`--${name}`]));
}

/** Subcommands with an option string of their own, by what stands for it where flags stand for theirs. */
function subcommandKeys(commands: readonly ManualCommand[]): [flag: string, keys: readonly ManualKey[]][] {
  return commands.flatMap(({ name, subcommands }) =>
    subcommands.flatMap(({ name: sub, argument }): [string, readonly ManualKey[]][] =>
      argument === undefined || argument === 'path' ? [] : [[`${name}:${sub}`, argument]],
    ),
  );
}

/** The words of a command line before which a value of an option stands, which is a path, a folder or anything. */
function valueOptions(commands: readonly ManualCommand[], kind: 'PATH' | 'DIR' | 'other'): string[] {
  const all = [...commands, ...commands.flatMap(({ subcommands }) => subcommands)];
  const found = all.flatMap(({ options }) =>
    options.filter(
      ({ value }) =>
        value !== '' && (kind === value || (kind === 'other' && !['PATH', 'DIR'].includes(value))),
    ),
  );
  return [...new Set(names(found))];
}

function bash(options: readonly ManualOption[], commands: readonly ManualCommand[]): string {
  const own = subcommandKeys(commands);
  const cases = options.flatMap((option) => {
    if (takesPath(option)) return [`    --${option.name}) COMPREPLY=($(compgen -f -- "$word")); return ;;`];
    const words = wordsAfter(option);
    if (words.length === 0) return [];
    return [`    --${option.name}) keys='${words.join(' ')}' ;;`];
  });
  cases.push(
    ...own.map(([flag, keys]) => `    ${flag}) keys='${keys.map(({ key }) => `${key}=`).join(' ')}' ;;`),
  );
  const valuesOf = (flag: string, keys: readonly ManualKey[]) =>
    keys.flatMap(({ key, value }) => {
      const words = choices(value);
      return words.length === 0 ? [] : [`    ${flag}:${key}) values='${words.join(' ')}' ;;`];
    });
  const values = [
    ...options.flatMap(({ name, keys }) => valuesOf(`--${name}`, keys)),
    ...own.flatMap(([flag, keys]) => valuesOf(flag, keys)),
  ];
  return `# bash completion of tsvmm; written by 'tsvmm --completions bash'
# VMs of a supervisor, by the command that is being written.
_tsvmm_names() {
  local i dir=()
  for ((i = 1; i < \${#parts[@]} - 1; i++)); do [[ \${parts[i]} == --dir ]] && dir=(--dir "\${parts[i + 1]}"); done
  "\${parts[0]}" ps -a -q "\${dir[@]}" 2>/dev/null
}
# What follows a subcommand. True if that is all; else the keys of its option string follow, of which flag is told.
_tsvmm_command() {
  local offered='' sub='' list='' some=''
  case "$command" in
${commands.map(bashCommand).join('\n')}
    *) return 0 ;;
  esac
  for part in "\${parts[@]:2}"; do
    [[ $part == -* ]] && continue
    [[ -z $sub && " $list " == *" $part "* ]] && sub="$part"
  done
  case "$command:$sub" in
${commands.flatMap(bashSubcommands).join('\n')}
  esac
  case "\${parts[-1]}" in
    ${valueOptions(commands, 'PATH').join(' | ')}) COMPREPLY=($(compgen -f -- "$word")); return 0 ;;
    ${valueOptions(commands, 'DIR').join(' | ')}) COMPREPLY=($(compgen -d -- "$word")); return 0 ;;
    ${valueOptions(commands, 'other').join(' | ')}) return 0 ;;
  esac
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W "$offered" -- "$word"))
    return 0
  fi
  [[ -n $flag ]] && return 1
  [[ -n $sub ]] && list='' some=''
  [[ " \${parts[*]} " == *' --api-socket '* ]] && some=''
  [[ -n $some ]] && list+=" $(_tsvmm_names)"
  COMPREPLY=($(compgen -W "$list" -- "$word"))
}
_tsvmm() {
  local line="\${COMP_LINE:0:COMP_POINT}" word flag i keys='' values='' done part parts command=''
  word="\${line##*[[:space:]]}"
  read -ra parts <<< "\${line%"$word"}"
  flag=''
  COMPREPLY=()
  [[ \${parts[1]-} == [!-]* ]] && command="\${parts[1]}"
  case "$command" in
    '' | ${commands
      .filter(({ machine }) => machine)
      .map(({ name }) => name)
      .join(' | ')})
      for part in "\${parts[@]}"; do [[ $part == --* ]] && flag="$part"; done
      if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W '${names(options).join(' ')}' -- "$word"))
        return
      fi
      ;;
    *) _tsvmm_command && return ;;
  esac
  case "$flag" in
${cases.join('\n')}
  esac
  if [[ -z $keys ]]; then
    [[ -z $command && \${#parts[@]} == 1 ]] && keys='${commands.map(({ name }) => name).join(' ')} '
    COMPREPLY=($(compgen -W "$keys"'${names(options).join(' ')}' -- "$word"))
    return
  fi
  part="\${word##*,}"
  done="\${word%"$part"}"
  if [[ $part == *=* ]]; then
    case "$flag:\${part%%=*}" in
${values.join('\n')}
    *:path | *:file | *:socket) ;;
    esac
    if [[ -n $values ]]; then
      COMPREPLY=($(compgen -W "$values" -- "\${part#*=}"))
    else
      COMPREPLY=($(compgen -f -- "\${part#*=}"))
    fi
    return
  fi
  compopt -o nospace
  COMPREPLY=($(compgen -P "$done" -W "$keys" -- "$part"))
  # Readline splits words at = and shows what follows the last one.
  if [[ $done == *=* ]]; then
    for i in "\${!COMPREPLY[@]}"; do COMPREPLY[i]="\${COMPREPLY[i]#"\${done%"\${done##*=}"}"}"; done
  fi
}
complete -F _tsvmm tsvmm
`;
}

function bashCommand({ name, options, names: takesNames, subcommands }: ManualCommand): string {
  const parts = [`offered='${names(options).join(' ')}'`];
  if (subcommands.length > 0) parts.push(`list='${subcommands.map((sub) => sub.name).join(' ')}'`);
  if (takesNames) parts.push('some=names');
  return `    ${name}) ${parts.join(' ')} ;;`;
}

function bashSubcommands({ name, subcommands }: ManualCommand): string[] {
  return subcommands.flatMap(({ name: sub, options, argument }) => {
    const parts: string[] = [];
    if (options.length > 0) parts.push(`offered+=' ${names(options).join(' ')}'`);
    if (argument === 'path')
      parts.push('[[ $word == -* ]] || { COMPREPLY=($(compgen -f -- "$word")); return 0; }');
    else if (argument) parts.push(`flag=${name}:${sub}`);
    return parts.length > 0 ? [`    ${name}:${sub}) ${parts.join('; ')} ;;`] : [];
  });
}

const zshQuote = (text: string) => text.replace(/'/g, "'\\''").replace(/[[\]:]/g, '\\$&');

function zsh(options: readonly ManualOption[], commands: readonly ManualCommand[]): string {
  const specs = options.map((option) => {
    const { name, value, help } = option;
    const head = `    '*--${name}[${zshQuote(help)}]`;
    if (value === '') return `${head}'`;
    return `${head}:${zshQuote(value)}:${zshAction(option)}'`;
  });
  const machines = commands.filter(({ machine }) => machine).map(({ name }) => name);
  return `#compdef tsvmm
# zsh completion of tsvmm; written by 'tsvmm --completions zsh'
# VMs of a supervisor, by the command that is being written.
_tsvmm_names() {
  local i=\${words[(I)--dir]}
  local -a dir found
  (( i > 0 && i + 1 < CURRENT )) && dir=(--dir \${(Q)words[i+1]})
  found=(\${(f)"$(\${(Q)words[1]} ps -a -q $dir 2>/dev/null)"})
  compadd -a found
}
_tsvmm_command() {
  local command=$words[2] sub='' word
  local -a offered list
  case $command in
${commands.map(zshCommand).join('\n')}
  esac
  for word in \${words[3,CURRENT-1]}; do
    [[ -z $sub && -n \${(M)list:#$word:*} ]] && sub=$word
  done
  case $command:$sub in
${commands.flatMap(zshSubcommands).join('\n')}
  esac
  case $words[CURRENT-1] in
    (${valueOptions(commands, 'PATH').join('|')}) _files; return ;;
    (${valueOptions(commands, 'DIR').join('|')}) _files -/; return ;;
    (${valueOptions(commands, 'other').join('|')}) return ;;
  esac
  if [[ $words[CURRENT] == -* ]]; then
    compadd -- $offered
    return
  fi
  if [[ -n $sub ]]; then
    _tsvmm_argument $command:$sub
    return
  fi
  (( $#list )) && _describe subcommand list
  [[ -n $some && -z \${(M)words:#--api-socket} ]] && _tsvmm_names
}
# Of a subcommand: a path, or an option string.
_tsvmm_argument() {
  case $1 in
${commands.flatMap(zshArguments).join('\n')}
  esac
}
_tsvmm() {
  local some=''
  if (( CURRENT > 2 )) && [[ $words[2] != -* && $words[2] != (${machines.join('|')}) ]]; then
    _tsvmm_command
    return
  fi
  if (( CURRENT == 2 )) && [[ $words[2] != -* ]]; then
    local -a commands=(
${commands.map(({ name, about }) => `      '${name}:${zshQuote(about)}'`).join('\n')}
    )
    _describe command commands
    return
  fi
  # The options of a machine follow.
  if [[ $words[2] != -* ]]; then
    words=($words[1] $words[3,-1])
    (( CURRENT-- ))
  fi
  _arguments -s \\
${specs.join(' \\\n')}
}
# As a file of $fpath it is run to complete; else it is read.
if [[ \${funcstack[1]-} == _tsvmm ]]; then
  _tsvmm "$@"
else
  compdef _tsvmm tsvmm
fi
`;
}

function zshCommand({ name, options, names: takesNames, subcommands }: ManualCommand): string {
  const parts = [`offered=(${names(options).join(' ')})`];
  if (subcommands.length > 0) {
    parts.push(`list=(${subcommands.map((sub) => `'${sub.name}:${zshQuote(sub.about)}'`).join(' ')})`);
  }
  if (takesNames) parts.push('some=names');
  return `    (${name}) ${parts.join(' ')} ;;`;
}

function zshSubcommands({ name, subcommands }: ManualCommand): string[] {
  return subcommands
    .filter(({ options }) => options.length > 0)
    .map(({ name: sub, options }) => `    (${name}:${sub}) offered+=(${names(options).join(' ')}) ;;`);
}

function zshArguments({ name, subcommands }: ManualCommand): string[] {
  return subcommands.flatMap(({ name: sub, argument }) => {
    if (argument === undefined) return [];
    return [`    (${name}:${sub}) ${argument === 'path' ? '_files' : zshValues(argument)} ;;`];
  });
}

function zshAction(option: ManualOption): string {
  if (takesPath(option)) return '_files';
  if (option.keys.length === 0) {
    const words = wordsAfter(option);
    return words.length > 0 ? `(${words.join(' ')})` : ' ';
  }
  // Within the single quotes and after the colons of a specification.
  return zshValues(option.keys)
    .replace(/'/g, "'\\''")
    .replace(/:value:/g, '\\:value\\:');
}

function zshValues(keys: readonly ManualKey[]): string {
  const values = keys.map(({ key, value, help }) => {
    const words = choices(value);
    const text = help.replace(/[[\]:]/g, '\\$&').replace(/["$`]/g, '\\$&');
    return `"${key}[${text}]:value:${words.length > 0 ? `(${words.join(' ')})` : '_files'}"`;
  });
  return `_values -s , option ${values.join(' ')}`;
}

function fish(options: readonly ManualOption[], commands: readonly ManualCommand[]): string {
  const quote = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`;
  const lines = options.map((option) => {
    const { name, short, value, help } = option;
    const words = wordsAfter(option).flatMap((word) => {
      const key = option.keys.find((one) => `${one.key}=` === word);
      const values = key ? choices(key.value) : [];
      return values.length > 0 ? values.map((choice) => word + choice) : [word];
    });
    const parts = ['complete -c tsvmm -n __tsvmm_machine', `-l ${name}`, ...(short ? [`-s ${short}`] : [])];
    if (value !== '' && !value.startsWith('[')) parts.push('-r');
    if (value !== '' && !takesPath(option) && value !== 'OPTIONS...') parts.push('-f');
    if (words.length > 0) parts.push(`-a ${quote(words.join(' '))}`);
    return [...parts, `-d ${quote(help)}`].join(' ');
  });
  const optionLines = (condition: string, list: ManualCommand['options']) =>
    list.map(({ name, short, value, help }) => {
      const parts = [`complete -c tsvmm -n '${condition}'`, `-l ${name}`, ...(short ? [`-s ${short}`] : [])];
      if (value === 'PATH') parts.push('-rF');
      else if (value === 'DIR') parts.push(`-xa '(__fish_complete_directories)'`);
      else if (value !== '') parts.push('-x');
      return [...parts, ...(help ? [`-d ${quote(help)}`] : [])].join(' ');
    });
  const own = commands.flatMap(({ name, about, options: list, names: takesNames, subcommands }) => [
    `complete -c tsvmm -n __tsvmm_first -f -a ${name} -d ${quote(about)}`,
    ...optionLines(`__tsvmm_in ${name}`, list),
    ...(takesNames
      ? [`complete -c tsvmm -n '__tsvmm_in ${name}; and not __tsvmm_sub' -f -a '(__tsvmm_names)'`]
      : []),
    ...subcommands.flatMap((sub) => [
      `complete -c tsvmm -n '__tsvmm_in ${name}; and not __tsvmm_sub' -f -a ${sub.name} -d ${quote(sub.about)}`,
      ...optionLines(`__tsvmm_in ${name}; and __tsvmm_sub ${sub.name}`, sub.options),
      ...fishArgument(name, sub),
    ]),
  ]);
  const all = commands.flatMap(({ subcommands }) => subcommands.map(({ name }) => name));
  const machines = commands.filter(({ machine }) => machine).map(({ name }) => name);
  return `# fish completion of tsvmm; written by 'tsvmm --completions fish'
function __tsvmm_words
  commandline -opc
end
function __tsvmm_first
  test (count (__tsvmm_words)) -eq 1
end
function __tsvmm_in
  set -l words (__tsvmm_words)
  test (count $words) -ge 2; and test $words[2] = $argv[1]
end
function __tsvmm_machine
  set -l words (__tsvmm_words)
  test (count $words) -lt 2; or string match -q -- '-*' $words[2]; or contains -- $words[2] ${machines.join(' ')}
end
function __tsvmm_sub
  for word in (__tsvmm_words)[3..-1]
    if contains -- $word ${all.join(' ')}
      test (count $argv) -eq 0; or test $word = $argv[1]
      return
    end
  end
  return 1
end
function __tsvmm_names
  set -l words (__tsvmm_words)
  contains -- --api-socket $words; and return
  set -l dir
  for i in (seq 2 (math (count $words) - 1))
    test $words[$i] = --dir; and set dir --dir $words[(math $i + 1)]
  end
  $words[1] ps -a -q $dir 2>/dev/null
end
complete -c tsvmm -n 'not __tsvmm_machine' -f
${own.join('\n')}
${lines.join('\n')}
`;
}

function fishArgument(command: string, { name, argument }: ManualCommand): string[] {
  const condition = `-n '__tsvmm_in ${command}; and __tsvmm_sub ${name}'`;
  if (argument === undefined) return [];
  if (argument === 'path') return [`complete -c tsvmm ${condition} -F`];
  const words = argument.flatMap(({ key, value }) => {
    const values = choices(value);
    return values.length > 0 ? values.map((choice) => `${key}=${choice}`) : [`${key}=`];
  });
  return [`complete -c tsvmm ${condition} -f -a '${words.join(' ')}'`];
}

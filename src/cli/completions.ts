/** Completions for shells, written from the manual. Loaded only when asked for. */
import { type ManualOption, manual } from './manual.ts';
import { UsageError } from './usageError.ts';

export const shells: Readonly<Record<string, (options: readonly ManualOption[]) => string>> = {
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
  return write(manual().flatMap(({ options }) => options));
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
function names(options: readonly ManualOption[]): string[] {
  return options.flatMap(({ name, short }) => (short ? [`--${name}`, `-${short}`] : [`--${name}`]));
}

function bash(options: readonly ManualOption[]): string {
  const cases = options.flatMap((option) => {
    if (takesPath(option)) return [`    --${option.name}) COMPREPLY=($(compgen -f -- "$word")); return ;;`];
    const words = wordsAfter(option);
    if (words.length === 0) return [];
    return [`    --${option.name}) keys='${words.join(' ')}' ;;`];
  });
  const values = options.flatMap(({ name, keys }) =>
    keys.flatMap(({ key, value }) => {
      const words = choices(value);
      return words.length === 0 ? [] : [`    --${name}:${key}) values='${words.join(' ')}' ;;`];
    }),
  );
  return `# bash completion of tsvmm; written by 'tsvmm --completions bash'
_tsvmm() {
  local line="\${COMP_LINE:0:COMP_POINT}" word flag i keys='' values='' done part
  word="\${line##*[[:space:]]}"
  flag=''
  for part in $line; do [[ $part == --* && $part != "$word" ]] && flag="$part"; done
  COMPREPLY=()
  if [[ $word == -* ]]; then
    COMPREPLY=($(compgen -W '${names(options).join(' ')}' -- "$word"))
    return
  fi
  case "$flag" in
${cases.join('\n')}
  esac
  if [[ -z $keys ]]; then
    COMPREPLY=($(compgen -W '${names(options).join(' ')}' -- "$word"))
    return
  fi
  part="\${word##*,}"
  done="\${word%"$part"}"
  if [[ $part == *=* ]]; then
    case "$flag:\${part%%=*}" in
${values.join('\n')}
    path:*) ;;
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

function zsh(options: readonly ManualOption[]): string {
  const quote = (text: string) => text.replace(/'/g, "'\\''").replace(/[[\]:]/g, '\\$&');
  const specs = options.map((option) => {
    const { name, value, help } = option;
    const head = `    '*--${name}[${quote(help)}]`;
    if (value === '') return `${head}'`;
    return `${head}:${quote(value)}:${zshAction(option)}'`;
  });
  return `#compdef tsvmm
# zsh completion of tsvmm; written by 'tsvmm --completions zsh'
_tsvmm() {
  _arguments -s \\
${specs.join(' \\\n')}
}
_tsvmm "$@"
`;
}

function zshAction(option: ManualOption): string {
  if (takesPath(option)) return '_files';
  const quote = (text: string) => text.replace(/'/g, "'\\''").replace(/[[\]:]/g, '\\$&');
  if (option.keys.length === 0) {
    const words = wordsAfter(option);
    return words.length > 0 ? `(${words.join(' ')})` : ' ';
  }
  const keys = option.keys.map(({ key, value, help }) => {
    const words = choices(value);
    return `"${key}[${quote(help).replace(/["$`]/g, '\\$&')}]\\:value\\:${words.length > 0 ? `(${words.join(' ')})` : '_files'}"`;
  });
  return `_values -s , option ${keys.join(' ')}`;
}

function fish(options: readonly ManualOption[]): string {
  const quote = (text: string) => `'${text.replace(/[\\']/g, '\\$&')}'`;
  const lines = options.map((option) => {
    const { name, short, value, help } = option;
    const words = wordsAfter(option).flatMap((word) => {
      const key = option.keys.find((one) => `${one.key}=` === word);
      const values = key ? choices(key.value) : [];
      return values.length > 0 ? values.map((choice) => word + choice) : [word];
    });
    const parts = ['complete -c tsvmm', `-l ${name}`, ...(short ? [`-s ${short}`] : [])];
    if (value !== '' && !value.startsWith('[')) parts.push('-r');
    if (value !== '' && !takesPath(option) && value !== 'OPTIONS...') parts.push('-f');
    if (words.length > 0) parts.push(`-a ${quote(words.join(' '))}`);
    return [...parts, `-d ${quote(help)}`].join(' ');
  });
  return `# fish completion of tsvmm; written by 'tsvmm --completions fish'\n${lines.join('\n')}\n`;
}

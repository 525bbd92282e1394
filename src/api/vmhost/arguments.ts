/** The command line of `tsvmm vmhost`. Read here rather than by node:util, which a start would wait for. */
import { UsageError } from '../../cli/usageError.ts';
import { END_CAUSES, type EndCause } from '../../vmm/events.ts';
import { BACKEND } from './protocol.ts';

export interface VmhostOptions {
  readonly name?: string;
  readonly paused: boolean;
  readonly endOn: readonly EndCause[];
  /** Absolute, as is `supervisor`. */
  readonly configDir: string;
  readonly apiSocket?: string;
  readonly apiStrict: boolean;
  readonly supervisor?: string;
}

const TEXTS: readonly string[] = ['name', 'backend', 'config-dir', 'api-socket', 'supervisor', 'end-on'];
const SWITCHES: readonly string[] = ['paused', 'api-strict', 'help'];

/** Undefined if help is asked for. @throws UsageError */
export function parseVmhostArguments(args: readonly string[]): VmhostOptions | undefined {
  const values = collect(args);
  if (values.has('help')) return undefined;
  const name = values.get('name');
  const configDir = values.get('config-dir');
  const apiSocket = values.get('api-socket');
  const supervisor = values.get('supervisor');
  if ((name === undefined && supervisor === undefined) || configDir === undefined) {
    throw new UsageError('vmhost needs --name and --config-dir');
  }
  const backend = values.get('backend') ?? '';
  if (backend !== BACKEND) throw new UsageError(`vmhost has no backend "${backend}", only ${BACKEND}`);
  return {
    configDir: absolute(process.cwd(), configDir),
    paused: values.has('paused'),
    apiStrict: values.has('api-strict'),
    endOn: endCauses(values.get('end-on')),
    ...(name !== undefined && { name }),
    ...(apiSocket !== undefined && { apiSocket }),
    ...(supervisor !== undefined && { supervisor: absolute(process.cwd(), supervisor) }),
  };
}

function endCauses(words: string | undefined): EndCause[] {
  return (words?.split(',') ?? []).map((word) => {
    const cause = END_CAUSES.find((each) => each === word);
    if (cause === undefined) throw new UsageError(`--end-on ${word}: ${END_CAUSES.join(', ')}`);
    return cause;
  });
}

/** @param folder absolute; where a relative path begins */
export function absolute(folder: string, path: string): string {
  return path.startsWith('/') ? path : `${folder}/${path}`;
}

/** `--option` or `--option=value`; anything else is no option of ours. */
function splitWord(word: string): { readonly option: string; readonly inline?: string } {
  if (!word.startsWith('--')) return { option: '' };
  const equals = word.indexOf('=');
  if (equals < 0) return { option: word.slice(2) };
  return { option: word.slice(2, equals), inline: word.slice(equals + 1) };
}

/** The last value of each option, by its name; '' of a switch. */
function collect(args: readonly string[]): Map<string, string> {
  const values = new Map<string, string>();
  const words = args.values();
  for (const word of words) {
    const { option, inline } = splitWord(word === '-h' ? '--help' : word);
    if (TEXTS.includes(option)) {
      const value = inline ?? words.next().value;
      if (value === undefined) throw new UsageError(`--${option} needs a value`);
      values.set(option, value);
    } else if (SWITCHES.includes(option)) {
      if (inline !== undefined) throw new UsageError(`--${option} takes no value`);
      values.set(option, '');
    } else {
      throw new UsageError(`vmhost does not know "${word}"`);
    }
  }
  return values;
}

/** `tsvmm ctl`: the client of a VM's REST API. */
import { JsonError, readJson } from '../../api/rest/jsonReader.ts';
import { MAX_TIMER_MS } from '../../config/limits.ts';
import { VmmError } from '../../vmm/errors.ts';
import { printableJson } from '../../vmm/printable.ts';
import { writeOut } from '../standardOutput.ts';
import { findVm } from '../vms/vmSocket.ts';
import { ApiConnection, type ApiRequest, NoAnswer } from './apiConnection.ts';
import { type CtlInvocation, type CtlTarget, parseCtl } from './arguments.ts';
import { type CtlCommand, type CtlWords, ctlCommands } from './commands.ts';
import type { ApiAnswer } from './httpAnswer.ts';
import { Follower, showProgress, showsProgress } from './progress.ts';
import { Refusal } from './refusal.ts';

const EXIT_INTERRUPTED = 130;
/** What was asked for ends the answering process itself. */
const LAST_ENDPOINT = 'vmm.shutdown';

type Run = Extract<CtlInvocation, { action: 'run' }>;

/** @param args behind `ctl` @returns the exit code @throws UsageError, ConfigError, VmmError */
export async function ctlCommand(args: readonly string[]): Promise<number> {
  const invocation = parseCtl(args);
  switch (invocation.action) {
    case 'help':
      await writeOut((await import('./help.ts')).ctlHelp(invocation.command));
      return 0;
    case 'version': {
      const { packageVersion } = await import('../../vmm/version.ts');
      await writeOut(`tsvmm v${packageVersion}\n`);
      return 0;
    }
    case 'run':
      return run(invocation);
  }
}

async function run(invocation: Run): Promise<number> {
  const path = await socketOf(invocation.target);
  const command = Object.hasOwn(ctlCommands, invocation.command)
    ? ctlCommands[invocation.command]
    : undefined;
  if (command === undefined) {
    const { watchCounters } = await import('./watch/watch.ts');
    return watchCounters(path, invocation.words.options, invocation.json);
  }
  const request = await command.request(invocation.words, folderOf(invocation.target));
  try {
    const answer = await ask(path, request, command, invocation);
    await tell(answer, command, invocation);
    return 0;
  } catch (error) {
    if (!invocation.json || !(error instanceof Refusal)) throw error;
    const told = JSON.stringify({ status: error.status, error: error.messages });
    process.stderr.write(`${printableJson(told)}\n`);
    return 1;
  }
}

/** How long a command waits for its answer, unless `--timeout` was given. */
export function answerTimeoutMs({ timeoutMs, waitMs }: CtlCommand, words: CtlWords): number {
  return Math.min(timeoutMs + (waitMs?.(words) ?? 0), MAX_TIMER_MS);
}

/**
 * Where relative paths begin: for a supervisor's VM here, as its process works in another folder that the user need not
 * know; with a socket they are, as the reference's client has them, the process's own.
 */
export function folderOf(target: CtlTarget | undefined): string | undefined {
  return target !== undefined && 'name' in target ? process.cwd() : undefined;
}

/** @throws VmmError */
async function socketOf(target: CtlTarget | undefined): Promise<string> {
  if (target === undefined) throw new VmmError('Say which VM: tsvmm ctl --api-socket PATH, or a name');
  return 'socket' in target ? target.socket : (await findVm(target.name, target.dir)).apiSocket;
}

/** @throws VmmError */
async function ask(
  path: string,
  request: ApiRequest,
  command: CtlCommand,
  { words, timeoutMs: given }: Run,
): Promise<ApiAnswer> {
  const timeoutMs = given ?? answerTimeoutMs(command, words);
  const endProgress = progressOf(path, command, words);
  const interrupted = () => {
    endProgress();
    process.stderr.write('tsvmm: not waiting any longer; what was asked for may go on\n');
    process.exit(EXIT_INTERRUPTED);
  };
  process.once('SIGINT', interrupted);
  try {
    const api = await ApiConnection.open(path, timeoutMs);
    const answer = await api.call(request, timeoutMs).catch((error) => {
      if (error instanceof NoAnswer && request.endpoint === LAST_ENDPOINT) return { status: 200, body: '' };
      throw error;
    });
    api.close();
    if (answer.status >= 300) throw new Refusal(answer);
    return answer;
  } finally {
    process.off('SIGINT', interrupted);
    endProgress();
  }
}

/** @returns ends it */
function progressOf(path: string, { doing, howFar }: CtlCommand, words: CtlWords): () => void {
  if (howFar === undefined || !showsProgress()) return showProgress(doing, () => '');
  const follower = new Follower(path, (info) => howFar(info, words));
  const end = showProgress(doing, () => follower.text);
  return () => {
    follower.end();
    end();
  };
}

async function tell({ body }: ApiAnswer, command: CtlCommand, { json, words }: Run): Promise<void> {
  if (json) {
    if (body !== '') await writeOut(`${printableJson(body)}\n`);
    return;
  }
  await writeOut(`${command.done(parse(body), words)}\n`);
}

/** @throws VmmError */
function parse(body: string): unknown {
  if (body === '') return undefined;
  try {
    return readJson(body);
  } catch (error) {
    if (!(error instanceof JsonError)) throw error;
    throw new VmmError('The answer is no JSON', { cause: error });
  }
}

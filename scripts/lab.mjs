/** `npm run lab -- [--arch x86_64] [--share DIR] -- CMD...`: a command inside the lab host. */
import os from 'node:os';
import { openLab } from './lab/lab.mjs';
import { Failure, runMain, step } from './lib/progress.mjs';

const USAGE = 'usage: npm run lab -- [--arch x86_64] [--share DIR] [--console] -- CMD...';

/** @param {readonly string[]} args */
function parse(args) {
  /** @type {{share?: string, console: boolean, command: string[]}} */
  const parsed = { console: false, command: [] };
  for (let at = 0; at < args.length; at++) {
    const word = args[at];
    if (word === '--') {
      parsed.command = args.slice(at + 1);
      break;
    }
    if (word === '--console') parsed.console = true;
    else if (word === '--share' && args[at + 1]) parsed.share = String(args[++at]);
    else if (word === '--arch' && args[at + 1]) checkArch(String(args[++at]));
    else throw new Failure(USAGE);
  }
  if (parsed.command.length === 0) throw new Failure(USAGE);
  return parsed;
}

/** @param {string} arch */
function checkArch(arch) {
  if (arch === 'aarch64') throw new Failure('there is no aarch64 lab yet: only --arch x86_64');
  if (arch !== 'x86_64') throw new Failure(`unknown architecture ${arch}: only --arch x86_64`);
}

await runMain(async () => {
  const options = parse(process.argv.slice(2));
  const lab = await step('booting the lab host', () =>
    openLab({
      ...(options.share && { share: options.share }),
      ...(options.console && { onConsole: (text) => process.stderr.write(text) }),
    }),
  );
  try {
    return await attach(lab, options.command);
  } finally {
    await lab.close();
  }
});

/**
 * Runs a command with this process's standard streams, on a terminal if they are one.
 *
 * @param {import('./lab/lab.mjs').Lab} lab
 * @param {readonly string[]} command
 */
async function attach(lab, command) {
  const { stdin, stdout } = process;
  const interactive = Boolean(stdin.isTTY && stdout.isTTY);
  const job = lab.start({
    command,
    ...(interactive && { terminal: { rows: stdout.rows, columns: stdout.columns } }),
    onStdout: (bytes) => stdout.write(bytes),
    onStderr: (bytes) => process.stderr.write(bytes),
  });
  if (interactive) {
    stdin.setRawMode(true);
    stdout.on('resize', () => job.resize(stdout.rows, stdout.columns));
  }
  for (const name of /** @type {const} */ (['SIGINT', 'SIGTERM', 'SIGHUP'])) {
    process.on(name, () => job.kill(os.constants.signals[name]));
  }
  stdin.on('data', (bytes) => job.write(bytes));
  stdin.on('end', () => job.end());
  try {
    return await job.exited;
  } finally {
    if (interactive) stdin.setRawMode(false);
    stdin.destroy();
  }
}

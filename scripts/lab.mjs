/** `npm run lab -- [--arch x86_64] [--share DIR] -- CMD...`: a command inside the lab host. */
import { attach } from './lab/attach.mjs';
import { labHost } from './lab/hostImage.mjs';
import { openLab } from './lab/lab.mjs';
import { exitOnSignals, Failure, runMain, step } from './lib/progress.mjs';

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
  exitOnSignals();
  await labHost();
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

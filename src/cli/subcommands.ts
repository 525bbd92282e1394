/** Commands whose first word is no option, each loaded when it is called. */

/** Runs with the words behind it. @returns the exit code */
type Subcommand = (args: readonly string[]) => Promise<number>;

const vmCommand =
  (name: string): Subcommand =>
  async (args) => {
    const { runVmCommand } = await import('./vms/vmCommands.ts');
    return runVmCommand(name, args);
  };

const subcommands: Readonly<Record<string, Subcommand>> = {
  vmhost: async (args) => (await import('../api/vmhost/command.ts')).vmhostCommand(args),
  supervisor: async (args) => (await import('../supervisor/command.ts')).supervisorCommand(args),
  ctl: async (args) => (await import('./ctl/ctl.ts')).ctlCommand(args),
  console: async (args) => (await import('./console/console.ts')).consoleCommand(args),
  run: vmCommand('run'),
  create: vmCommand('create'),
  ps: vmCommand('ps'),
  start: vmCommand('start'),
  stop: vmCommand('stop'),
  restart: vmCommand('restart'),
  rm: vmCommand('rm'),
  logs: vmCommand('logs'),
  inspect: vmCommand('inspect'),
  stats: vmCommand('stats'),
  top: vmCommand('top'),
  events: vmCommand('events'),
};

export const subcommandNames: readonly string[] = Object.keys(subcommands);

export function findSubcommand(word: string | undefined): Subcommand | undefined {
  return word !== undefined && Object.hasOwn(subcommands, word) ? subcommands[word] : undefined;
}

/** Which consoles a Linux guest uses, by its command line. */
import type { VmConfig } from '../config/vmConfig.ts';

const PARAMETER = 'console=';

/**
 * The device that Linux opens as /dev/console: the last one that the command line names, of those that there are. Where
 * both are on one terminal, its keys go there.
 */
export function mainConsole(config: VmConfig): 'serial' | 'console' {
  const last = namedConsoles(config).findLast((name) => name.startsWith('ttyS') || name.startsWith('hvc'));
  return last?.startsWith('ttyS') ? 'serial' : 'console';
}

function namedConsoles(config: VmConfig): string[] {
  const { cmdline = '' } = config.payload ?? {};
  if (!cmdline.includes(PARAMETER)) return [];
  const words = cmdline.split(/\s+/);
  return words.filter((word) => word.startsWith(PARAMETER)).map((word) => word.slice(PARAMETER.length));
}

/** A warning if the kernel's output is shown nowhere; undefined also where that was asked for. */
export function consoleAdvice(config: VmConfig): string | undefined {
  const shown = shownConsoles(config);
  const [first] = shown;
  if (first === undefined) return undefined;
  const names = namedConsoles(config);
  if (
    names.some((name) => shown.some((one) => name.startsWith(one.kernelName) || name.startsWith(one.alias)))
  ) {
    return undefined;
  }
  const given =
    names.length === 0 ? 'no console' : `console=${names.join(' and console=')}, which is not shown`;
  return (
    `The kernel command line names ${given}: nothing will be seen of the kernel on ${first.option} ` +
    `without console=${first.kernelName} in --cmdline`
  );
}

interface ShownConsole {
  readonly option: string;
  readonly kernelName: string;
  /** Another way to name it (Linux: Documentation/admin-guide/kernel-parameters.txt, "console="). */
  readonly alias: string;
}

function shownConsoles({ console, serial }: VmConfig): ShownConsole[] {
  const shown: ShownConsole[] = [];
  if (isShown(console.mode)) shown.push({ option: '--console', kernelName: 'hvc0', alias: 'hvc' });
  if (isShown(serial.mode)) shown.push({ option: '--serial', kernelName: 'ttyS0', alias: 'uart' });
  return shown;
}

function isShown(mode: string): boolean {
  return mode !== 'Off' && mode !== 'Null';
}

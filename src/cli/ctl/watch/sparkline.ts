/** A row of small bars. */

export const BLOCKS: readonly string[] = [...' ▁▂▃▄▅▆▇█'];
/** For terminals that have letters only. */
export const LETTERS: readonly string[] = [...' .:-=+*#@'];

/**
 * The last `width` values, the newest at the right, from 0 to the largest of them. What is more than 0 shows.
 * @param levels from nothing to full
 */
export function sparkline(values: readonly number[], width: number, levels: readonly string[]): string {
  const shown = values.slice(-Math.max(1, width)).map((value) => (value > 0 ? value : 0));
  const most = Math.max(...shown, 0);
  const top = levels.length - 1;
  const bar = (value: number) => {
    if (value === 0) return 0;
    return Math.min(top, Math.max(1, Math.ceil((value / most) * top)));
  };
  return shown.map((value) => levels[bar(value)]).join('');
}

/** By the locale that is in force (setlocale(3)). */
export function levelsOf(environment: NodeJS.ProcessEnv): readonly string[] {
  const { LC_ALL, LC_CTYPE, LANG } = environment;
  const locale = LC_ALL || LC_CTYPE || LANG || '';
  return /utf-?8/i.test(locale) ? BLOCKS : LETTERS;
}

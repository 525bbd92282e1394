/** Formats tables for a terminal. */
import type { Uint64 } from '../../config/uint64.ts';
import { KIB } from '../../config/units.ts';
import { printable } from '../../vmm/printable.ts';

const GAP = '  ';
const MIN_WIDTH = 8;

/**
 * @param rows may hold texts of any origin
 * @param width of the terminal; Infinity where there is none. The widest column gives way, its texts cut with `…`.
 */
export function formatTable(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  width: number,
): string {
  const all = [header, ...rows.map((row) => row.map(printable))];
  const widths = header.map((_, column) => Math.max(...all.map((row) => (row[column] ?? '').length)));
  const total = () => widths.reduce((sum, each) => sum + each, 0) + GAP.length * (widths.length - 1);
  while (total() > width) {
    const widest = widths.indexOf(Math.max(...widths));
    if ((widths[widest] as number) <= MIN_WIDTH) break;
    widths[widest] = Math.max(MIN_WIDTH, (widths[widest] as number) - (total() - width));
  }
  return all
    .map(
      (row) =>
        `${row
          .map((text, i) => toWidth(text, widths[i] as number))
          .join(GAP)
          .trimEnd()}\n`,
    )
    .join('');
}

function toWidth(text: string, width: number): string {
  return text.length <= width ? text.padEnd(width) : `${text.slice(0, width - 1)}…`;
}

export function humanBytes(bytes: Uint64): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = Number(bytes);
  let unit = 0;
  while (value >= KIB && unit < units.length - 1) {
    value /= KIB;
    unit++;
  }
  return `${value >= 100 || Number.isInteger(value) ? value.toFixed(0) : value.toFixed(1)} ${units[unit]}`;
}

/** The two largest units of a time that has passed. */
export function humanDuration(ms: number): string {
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const parts: [number, string][] = [
    [Math.floor(seconds / 86_400), 'd'],
    [Math.floor(seconds / 3600) % 24, 'h'],
    [Math.floor(seconds / 60) % 60, 'm'],
    [seconds % 60, 's'],
  ];
  const first = parts.findIndex(([value]) => value > 0);
  if (first < 0) return '0s';
  return parts
    .slice(first, first + 2)
    .map(([value, unit]) => `${value}${unit}`)
    .join('');
}

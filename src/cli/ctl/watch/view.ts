/** Formats counters for a terminal, no wider and no longer than that is. */
import { printable } from '../../../vmm/printable.ts';
import { humanBytes } from '../../vms/table.ts';
import { counterText } from '../reports.ts';
import { type CounterRow, isMeasurement } from './samples.ts';
import { sparkline } from './sparkline.ts';

export interface View {
  /** One line. */
  readonly title: string;
  readonly rows: readonly CounterRow[];
}

export interface ViewSpace {
  readonly columns: number;
  readonly rows: number;
  readonly levels: readonly string[];
}

const GAP = '  ';
const HEADER = ['DEVICE', 'COUNTER', 'NOW', 'A SECOND', 'HISTORY'] as const;
/** Lines above the counters: title, header. */
const ABOVE = 2;
const MIN_HISTORY = 4;

/** Of a counter that grows, as text. */
export function rateText({ counter, rate }: CounterRow): string {
  if (isMeasurement(counter)) return '';
  if (rate === undefined) return '-';
  if (counter.endsWith('_bytes')) return `${humanBytes(rate >= 10 ? Math.round(rate) : rate)}/s`;
  if (rate >= 1e6) return `${(rate / 1e6).toFixed(1)} M/s`;
  if (rate >= 1e4) return `${(rate / 1e3).toFixed(1)} k/s`;
  return `${rate >= 100 || Number.isInteger(rate) ? rate.toFixed(0) : rate.toFixed(1)}/s`;
}

function cells(row: CounterRow): string[] {
  const { device, counter, value } = row;
  return [
    printable(device),
    printable(counter),
    counterText(counter, value).replace(/ \(.*/, ''),
    rateText(row),
  ];
}

/** Lines of at most `columns` characters; where there are too many counters, those go first that have never moved. */
export function viewLines({ title, rows }: View, { columns, rows: height, levels }: ViewSpace): string[] {
  const room = Math.max(1, height - ABOVE - 1);
  const chosen = fitting(rows, room);
  const table = chosen.map(cells);
  const widths = HEADER.slice(0, 4).map((name, i) =>
    Math.max(name.length, ...table.map((row) => (row[i] as string).length)),
  );
  const used = widths.reduce((sum, width) => sum + width + GAP.length, 0);
  const history = Math.max(MIN_HISTORY, columns - used);
  const line = (row: readonly string[], last: string) =>
    cut(
      `${row.map((text, i) => (i < 2 ? text.padEnd(widths[i] as number) : text.padStart(widths[i] as number))).join(GAP)}${GAP}${last}`,
      columns,
    );
  const lines = chosen.map((row, i) => line(table[i] as string[], sparkline(row.history, history, levels)));
  const left = rows.length - chosen.length;
  return [
    cut(title, columns),
    line(HEADER.slice(0, 4), HEADER[4]),
    ...lines,
    ...(left > 0 ? [cut(`${left} more, which a larger terminal shows`, columns)] : []),
  ].slice(0, Math.max(1, height));
}

function fitting(rows: readonly CounterRow[], room: number): readonly CounterRow[] {
  if (rows.length <= room) return rows;
  const moves = ({ history, counter }: CounterRow) =>
    !isMeasurement(counter) && history.some((rate) => rate > 0);
  const order = [...rows.filter(moves), ...rows.filter((row) => !moves(row))].slice(0, room);
  return rows.filter((row) => order.includes(row));
}

function cut(line: string, columns: number): string {
  const characters = [...line.trimEnd()];
  return characters.length <= columns ? characters.join('') : characters.slice(0, columns).join('');
}

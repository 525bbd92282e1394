/** `tsvmm top`: the resources that VMs' processes use, refreshed at an interval. */
import type { NamedStats } from '../../supervisor/stats.ts';
import { writeOut } from '../standardOutput.ts';
import { LiveScreen } from '../terminal/liveScreen.ts';
import { leftWithin } from '../terminal/looks.ts';
import { canDraw } from '../terminal/rawTerminal.ts';
import { formatTable, humanBytes, humanDuration } from './table.ts';

export interface TopOptions {
  /** Seconds. */
  readonly interval: number;
  /** Looks before it ends. */
  readonly count: number;
  readonly json: boolean;
}

/** A VM's process at one look. */
export interface TopRow extends NamedStats {
  /** Processors that it used since the look before; absent at the first one. */
  readonly cpus?: number;
}

/** Turns one look after the other into rows, the busiest first. */
export class TopRows {
  #last = new Map<string, { readonly pid: number; readonly seconds: number }>();
  #lastAt = 0;

  /** @param at ms, by a monotonic clock */
  add(all: readonly NamedStats[], at: number): TopRow[] {
    const elapsed = (at - this.#lastAt) / 1000;
    const rows = all.map((one): TopRow => {
      const before = this.#last.get(one.name);
      if (before?.pid !== one.pid) return one;
      return { ...one, cpus: Math.max(0, (one.cpu_seconds - before.seconds) / elapsed) };
    });
    this.#last = new Map(all.map(({ name, pid, cpu_seconds }) => [name, { pid, seconds: cpu_seconds }]));
    this.#lastAt = at;
    return rows.sort((a, b) => (b.cpus ?? 0) - (a.cpus ?? 0) || (a.name < b.name ? -1 : 1));
  }
}

/** @param width of the terminal @returns lines without their ends */
export function topLines(rows: readonly TopRow[], interval: number, width: number): string[] {
  const cpus = rows.reduce((sum, row) => sum + (row.cpus ?? 0), 0);
  const memory = rows.reduce((sum, row) => sum + row.memory_bytes, 0);
  const title = `${rows.length} VMs use ${percent(cpus)} of a processor and ${humanBytes(memory)}; every ${interval} s`;
  const cells = rows.map((row) => [
    row.name,
    row.state,
    humanDuration(row.uptime_seconds * 1000),
    row.cpus === undefined ? '-' : percent(row.cpus),
    humanBytes(row.memory_bytes),
    `${row.cpu_seconds.toFixed(2)} s`,
  ]);
  const table = formatTable(['NAME', 'STATE', 'UP', 'CPU', 'MEMORY', 'CPU TIME'], cells, width);
  return [title.slice(0, width), ...table.trimEnd().split('\n')];
}

function percent(cpus: number): string {
  return `${(cpus * 100).toFixed(1)} %`;
}

/** @param look what the VMs' processes use now @returns the exit code */
export async function showTop(look: () => Promise<NamedStats[]>, options: TopOptions): Promise<number> {
  const { interval, count, json } = options;
  const samples = new TopRows();
  // Nothing has been drawn if the first look fails.
  let rows = samples.add(await look(), performance.now());
  const screen =
    !json && canDraw()
      ? new LiveScreen(({ columns, rows: height }) => topLines(rows, interval, columns).slice(0, height))
      : undefined;
  try {
    for (let n = 1; ; n++) {
      if (screen) screen.draw();
      else if (json) await writeOut(`${JSON.stringify(rows)}\n`);
      else await writeOut(`${topLines(rows, interval, Number.POSITIVE_INFINITY).join('\n')}\n\n`);
      if (n >= count || (await leftWithin(screen?.left, interval * 1000))) return 0;
      rows = samples.add(await look(), performance.now());
    }
  } finally {
    screen?.close();
  }
}

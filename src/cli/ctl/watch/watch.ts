/** `tsvmm ctl watch`: counters as they change. */
import { readJson } from '../../../api/rest/jsonReader.ts';
import { writeJson } from '../../../api/rest/jsonWriter.ts';
import { printable } from '../../../vmm/printable.ts';
import { parseInteger } from '../../optionString.ts';
import { writeOut } from '../../standardOutput.ts';
import { LiveScreen } from '../../terminal/liveScreen.ts';
import { leftWithin, readInterval } from '../../terminal/looks.ts';
import { canDraw } from '../../terminal/rawTerminal.ts';
import { formatTable, humanBytes } from '../../vms/table.ts';
import { ApiConnection } from '../apiConnection.ts';
import type { CtlWords } from '../commands.ts';
import { Refusal } from '../refusal.ts';
import { counterText } from '../reports.ts';
import { type CounterRow, type Counters, Samples } from './samples.ts';
import { levelsOf } from './sparkline.ts';
import { rateText, viewLines } from './view.ts';

const ANSWER_MS = 10_000;

/** What one look has found. */
interface Look {
  readonly title: string;
  readonly state: string;
  readonly counters: Counters;
  readonly rows: readonly CounterRow[];
}

/** Where looks are shown. */
interface Display {
  show(look: Look): void | Promise<void>;
  /** Resolves when the user quits; absent where a signal is what ends it. */
  readonly left?: Promise<void>;
  close(): void;
}

/** @returns the exit code @throws UsageError, VmmError */
export async function watchCounters(
  path: string,
  options: CtlWords['options'],
  json: boolean,
): Promise<number> {
  const interval = readInterval(options.interval);
  const count = readCount(options.count);
  const api = await ApiConnection.open(path, ANSWER_MS);
  const samples = new Samples();
  // Nothing has been drawn if the first look fails.
  let look = await lookAt(api, samples, interval);
  const display: Display = json ? new JsonLines() : canDraw() ? new Screen() : new PlainTables();
  try {
    const start = performance.now();
    for (let n = 1; ; n++) {
      await display.show(look);
      if (n >= count) return 0;
      const wait = Math.max(0, start + n * interval * 1000 - performance.now());
      if (await leftWithin(display.left, wait)) return 0;
      look = await lookAt(api, samples, interval);
    }
  } finally {
    display.close();
    api.close();
  }
}

/** @throws ConfigError */
function readCount(text: string | undefined): number {
  return text === undefined ? Number.POSITIVE_INFINITY : parseInteger(text);
}

/** @throws VmmError if the VM's process is gone */
async function lookAt(api: ApiConnection, samples: Samples, interval: number): Promise<Look> {
  const get = async (endpoint: string) => {
    const answer = await api.call({ method: 'GET', endpoint }, ANSWER_MS);
    return answer.status === 200 ? readJson(answer.body) : new Refusal(answer);
  };
  const info = await get('vm.info');
  const counters = info instanceof Refusal ? info : await get('vm.counters');
  const every = `every ${interval} s`;
  if (info instanceof Refusal || counters instanceof Refusal) {
    const why = ((counters instanceof Refusal ? counters : info) as Refusal).message;
    return {
      title: `${printable(why)}; ${every}`,
      state: 'None',
      counters: {},
      rows: samples.add(now(), {}),
    };
  }
  const {
    state,
    config,
    memory_actual_size: memory,
  } = info as {
    state?: unknown;
    config?: { cpus?: { boot_vcpus?: unknown } };
    memory_actual_size?: unknown;
  };
  const size = typeof memory === 'number' || typeof memory === 'bigint' ? humanBytes(memory) : '-';
  const valid = numbersOf(counters);
  return {
    title: printable(`${state}, ${config?.cpus?.boot_vcpus} vCPUs, ${size}; ${every}`),
    state: String(state),
    counters: valid,
    rows: samples.add(now(), valid),
  };
}

function now(): bigint {
  return process.hrtime.bigint();
}

/** Whatever else a server may put there is left out. */
function numbersOf(counters: unknown): Counters {
  const result: Record<string, Record<string, number | bigint>> = {};
  for (const [device, values] of Object.entries((counters ?? {}) as object)) {
    const entries = Object.entries((values ?? {}) as Record<string, unknown>).filter(
      (entry): entry is [string, number | bigint] => ['number', 'bigint'].includes(typeof entry[1]),
    );
    result[device] = Object.fromEntries(entries);
  }
  return result;
}

/** The whole terminal, drawn anew for each look. */
class Screen implements Display {
  readonly #levels = levelsOf(process.env);
  #last: Look | undefined;
  readonly #screen = new LiveScreen((size) => {
    if (this.#last === undefined) return [];
    const { title, rows } = this.#last;
    return viewLines({ title: `${title}; q ends`, rows }, { ...size, levels: this.#levels });
  });

  get left(): Promise<void> {
    return this.#screen.left;
  }

  show(look: Look): void {
    this.#last = look;
    this.#screen.draw();
  }

  close(): void {
    this.#screen.close();
  }
}

/** For a file, a pipe, or a terminal that cannot be drawn on. */
class PlainTables implements Display {
  async show({ title, rows }: Look): Promise<void> {
    const cells = rows.map((row) => [
      printable(row.device),
      printable(row.counter),
      counterText(row.counter, row.value),
      rateText(row),
    ]);
    const table = formatTable(['DEVICE', 'COUNTER', 'NOW', 'A SECOND'], cells, Number.POSITIVE_INFINITY);
    await writeOut(`${new Date().toISOString()} ${title}\n${table}\n`);
  }

  close(): void {}
}

/** One object a line. */
class JsonLines implements Display {
  async show({ state, counters, rows }: Look): Promise<void> {
    const rates: Record<string, Record<string, number>> = {};
    for (const { device, counter, rate } of rows) {
      if (rate === undefined) continue;
      rates[device] ??= {};
      (rates[device] as Record<string, number>)[counter] = rate;
    }
    await writeOut(`${writeJson({ time: new Date().toISOString(), state, counters, rates })}\n`);
  }

  close(): void {}
}

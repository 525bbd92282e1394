/** Samples of counters over time. */

/** Looks that are remembered: as wide as any terminal's history needs to be. */
const MAX_HISTORY = 512;
const NANOSECONDS = 1e9;

/** Device to counter to value, as `vm.counters` has them. */
export type Counters = Readonly<Record<string, Readonly<Record<string, number | bigint>>>>;

export interface CounterRow {
  readonly device: string;
  readonly counter: string;
  readonly value: number | bigint;
  /**
   * Of one that only grows, by the second since the last look; undefined at first, after a reset, and of a measurement.
   */
  readonly rate: number | undefined;
  /** Rates, or values of a measurement, oldest first. */
  readonly history: readonly number[];
}

/** A latency is measured anew each time; everything else counts. */
export function isMeasurement(counter: string): boolean {
  return counter.includes('latency');
}

/** A measurement that was never taken is the largest number there is, or a fraction of it. */
const NEVER = 2 ** 64 / 10_001;

export class Samples {
  #time: bigint | undefined;
  #last = new Map<string, { value: number | bigint; history: number[] }>();

  /** @param time in nanoseconds, of any clock that only goes on */
  add(time: bigint, counters: Counters): CounterRow[] {
    const seconds = this.#time === undefined ? 0 : Number(time - this.#time) / NANOSECONDS;
    this.#time = time;
    const next = new Map<string, { value: number | bigint; history: number[] }>();
    const rows: CounterRow[] = [];
    for (const [device, values] of Object.entries(counters)) {
      for (const [counter, value] of Object.entries(values)) {
        const key = `${device} ${counter}`;
        const last = this.#last.get(key);
        const { rate, history } = isMeasurement(counter)
          ? { rate: undefined, history: grown(last?.history, Number(value) >= NEVER ? 0 : Number(value)) }
          : counted(last, value, seconds);
        next.set(key, { value, history });
        rows.push({ device, counter, value, rate, history });
      }
    }
    this.#last = next;
    return rows;
  }
}

function counted(
  last: { readonly value: number | bigint; readonly history: number[] } | undefined,
  value: number | bigint,
  seconds: number,
): { rate: number | undefined; history: number[] } {
  // It counts from 0 again after a reboot.
  if (last === undefined || seconds <= 0 || value < last.value) return { rate: undefined, history: [] };
  const rate = Number(BigInt(value) - BigInt(last.value)) / seconds;
  return { rate, history: grown(last.history, rate) };
}

function grown(history: number[] = [], value: number): number[] {
  history.push(value);
  if (history.length > MAX_HISTORY) history.shift();
  return history;
}

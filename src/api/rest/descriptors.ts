/** File descriptors that came over a socket: endpoints take those that they need, and the others are closed. */
import type { NativeAddon } from '../../native.ts';

type Files = Pick<NativeAddon, 'closeFile'>;

export class Descriptors {
  readonly #files: Files;
  #numbers: number[] = [];

  constructor(files: Files) {
    this.#files = files;
  }

  get count(): number {
    return this.#numbers.length;
  }

  add(numbers: readonly number[]): void {
    this.#numbers.push(...numbers);
  }

  /** Everything there is, as a collection of its own: this one is empty then. */
  split(): Descriptors {
    const taken = new Descriptors(this.#files);
    if (this.#numbers.length > 0) taken.add(this.take());
    return taken;
  }

  /** They are the caller's from now on. */
  take(): number[] {
    const numbers = this.#numbers;
    this.#numbers = [];
    return numbers;
  }

  close(): void {
    for (const number of this.take()) this.#files.closeFile(number);
  }
}

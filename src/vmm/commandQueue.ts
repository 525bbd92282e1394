/** What is done to a VM: one after the other, in the order in which it was asked for. */
export class CommandQueue {
  private last: Promise<unknown> = Promise.resolve();
  private ends = 0;
  private waitingEnds = 0;

  /** Whether something that ends the machine is in progress, or still has to have its turn. */
  get hasEnd(): boolean {
    return this.ends > 0;
  }

  /** Whether something that ends the machine still has to have its turn. */
  get endWaits(): boolean {
    return this.waitingEnds > 0;
  }

  add<T>(work: () => Promise<T>): Promise<T> {
    const turn = this.last.then(work);
    this.last = turn.then(ignore, ignore);
    return turn;
  }

  /** As `add`, of what ends the machine. */
  addEnd<T>(work: () => Promise<T>): Promise<T> {
    this.ends++;
    this.waitingEnds++;
    return this.add(async () => {
      this.waitingEnds--;
      try {
        return await work();
      } finally {
        this.ends--;
      }
    });
  }
}

function ignore(): void {}

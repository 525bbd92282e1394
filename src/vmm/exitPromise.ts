/** A promise of how a VMM ended. */
import type { VmmExit } from './events.ts';

export class ExitPromise {
  private exit: VmmExit | undefined;
  private promised: Promise<VmmExit> | undefined;
  private resolve: ((exit: VmmExit) => void) | undefined;

  /** Made when it is asked for: no VM waits for it to start. */
  get promise(): Promise<VmmExit> {
    this.promised ??= new Promise((resolve) => {
      this.resolve = resolve;
      if (this.exit) resolve(this.exit);
    });
    return this.promised;
  }

  get settled(): boolean {
    return this.exit !== undefined;
  }

  settle(exit: VmmExit): void {
    this.exit = exit;
    this.resolve?.(exit);
  }
}

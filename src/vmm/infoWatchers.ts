/** Those who keep an answer to `info`, or to `counters`, and have to renew it. */
export class InfoWatchers {
  private readonly watchers = new Set<() => void>();
  /** They are still to be told. */
  private isNew = false;

  /** @returns what ends it */
  add(changed: () => void): () => void {
    this.watchers.add(changed);
    return () => this.watchers.delete(changed);
  }

  /** They are told once of all that changes in one go: before whoever waits for the change goes on. */
  changed(): void {
    if (this.isNew || this.watchers.size === 0) return;
    this.isNew = true;
    queueMicrotask(() => this.tell());
  }

  /** Tells them at once, if something has changed. */
  tell(): void {
    if (!this.isNew) return;
    this.isNew = false;
    for (const changed of this.watchers) changed();
  }
}

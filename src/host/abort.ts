/** Abort signals of calls. */
export interface Abortable {
  readonly signal?: AbortSignal | undefined;
}

/** What `work` ends with, or the signal's reason if that comes first; what was begun goes on. */
export function unlessAborted<T>({ signal }: Abortable, work: () => Promise<T>): Promise<T> {
  if (!signal) return work();
  return new Promise((resolve, reject) => {
    signal.throwIfAborted();
    const abort = () => reject(signal.reason);
    signal.addEventListener('abort', abort);
    work()
      .then(resolve, reject)
      .finally(() => signal.removeEventListener('abort', abort));
  });
}

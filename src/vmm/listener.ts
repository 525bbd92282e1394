/**
 * Calls a listener, if there is one. What it throws is an uncaught exception, as if the event loop had called it
 * (`process.on('uncaughtException')`), and changes nothing here: a VM's state and what its commands end
 * with are the same with and without listeners.
 */
export function tell<Heard extends readonly unknown[]>(
  listener: ((...heard: Heard) => void) | undefined,
  ...heard: Heard
): void {
  try {
    listener?.(...heard);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

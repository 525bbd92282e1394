/** Resolves after so long: what node:timers/promises has, which a VM's process does not load for it. */
export function sleep(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

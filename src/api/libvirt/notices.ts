/** Events of domains that are not the supervisor's. */
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';

export type Notice =
  /** KiB that the guest has been left. */
  | { readonly kind: 'balloon'; readonly actual: bigint }
  /** virDomainMetadataType, and the namespace of an element. */
  | { readonly kind: 'metadata'; readonly type: number; readonly uri: string | undefined };

type Listener = (vm: SupervisedVm, notice: Notice) => void;

export class Notices {
  readonly #listeners = new Set<Listener>();

  tell(vm: SupervisedVm, notice: Notice): void {
    for (const listener of this.#listeners) listener(vm, notice);
  }

  /** @returns ends it */
  watch(listener: Listener): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

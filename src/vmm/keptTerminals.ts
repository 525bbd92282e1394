/** Pseudo terminals of a VM, which stay open over its reboots. */
import type { NativeAddon } from '../native.ts';

export interface PseudoTerminal {
  readonly fd: number;
  readonly path: string;
}

export class KeptTerminals {
  private readonly kept = new Map<string, PseudoTerminal>();

  /** That of a device, by its name. */
  open(native: NativeAddon, name: string): PseudoTerminal {
    const kept = this.kept.get(name) ?? native.openPty();
    this.kept.set(name, kept);
    return kept;
  }

  close(native: NativeAddon): void {
    for (const { fd } of this.kept.values()) native.closeFile(fd);
    this.kept.clear();
  }
}

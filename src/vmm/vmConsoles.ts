/** The consoles of a VM, over its machines. */
import type { VmConfig } from '../config/vmConfig.ts';
import { presentDevices } from '../devices/registry.ts';
import { type Consoles, consoleOutputs, openConsoles, STANDARD_STREAMS, type Terminal } from './consoles.ts';
import { filesToRead } from './filesToRead.ts';
import { KeptTerminals } from './keptTerminals.ts';
import type { MachineContext } from './machine.ts';
import type { VmmOptions } from './vmmOptions.ts';

export class VmConsoles {
  readonly terminal: Terminal;
  private readonly options: VmmOptions;
  private readonly filesAnswer: MachineContext['filesAnswer'];
  private readonly kept = new KeptTerminals();
  /** Paths and identities of files that this VM has emptied, or is to append to. */
  private readonly begun: Set<string>;
  private consoles: Consoles | undefined;

  constructor(options: VmmOptions, filesAnswer: MachineContext['filesAnswer']) {
    this.options = options;
    this.filesAnswer = filesAnswer;
    this.terminal = options.terminal ?? STANDARD_STREAMS;
    this.begun = new Set(options.appendTo);
  }

  /** Those of the present machine, or the next one. */
  get opened(): Consoles | undefined {
    return this.consoles;
  }

  /** Opens what the configuration asks for, unless that is open. @throws VmmError with nothing open */
  open(config: VmConfig): Promise<void> | void {
    if (this.consoles !== undefined) return;
    const outputs = consoleOutputs(config);
    if (outputs.length === 0) this.openNow(config);
    else return this.openOnceAnswered(config, outputs);
  }

  /** They are compared with all other files that the configuration names. */
  private async openOnceAnswered(config: VmConfig, outputs: readonly string[]): Promise<void> {
    await this.filesAnswer([...outputs, ...filesToRead(config, presentDevices(config))]);
    this.openNow(config);
  }

  private openNow(config: VmConfig): void {
    const { native, streams, outputs = [] } = this.options;
    const known = { others: outputs, begun: this.begun };
    this.consoles = openConsoles(native, config, this.terminal, this.kept, known, streams);
  }

  /** A machine is about to end. */
  drain(): void {
    this.options.streams?.serial?.drain();
    this.options.streams?.console?.drain();
  }

  /** Of a machine that is no more; pseudo terminals are the next one's. */
  close(): void {
    this.consoles?.close();
    this.consoles = undefined;
  }

  /** There is no next machine for now. */
  end(): void {
    this.close();
    this.kept.close(this.options.native);
  }

  /** The VM is gone: another one's files are begun anew. */
  forget(): void {
    this.begun.clear();
    for (const path of this.options.appendTo ?? []) this.begun.add(path);
  }
}

/**
 * A VM's definition as its supervisor holds it. A part that cannot be read is what it was when it was read last; one
 * that never was is nothing that anything may be done by, whatever stands for it meanwhile.
 */
import type { Definition, VmPolicy } from './definition.ts';
import type { DefinitionProblem, StoredDefinition } from './definitionStore.ts';

export class HeldDefinition {
  #definition: Definition;
  #problem: DefinitionProblem | undefined;
  #hasPolicy: boolean;
  #hasConfig: boolean;

  constructor({ definition, problem }: StoredDefinition) {
    this.#definition = definition;
    this.#problem = problem;
    this.#hasConfig = !problem?.config;
    this.#hasPolicy = !problem?.policy;
  }

  get definition(): Definition {
    return this.#definition;
  }

  /** Of the definition as it is on the disk. */
  get problem(): DefinitionProblem | undefined {
    return this.#problem;
  }

  /** Undefined if it was never read. */
  get config(): Definition['config'] | undefined {
    return this.#hasConfig ? this.#definition.config : undefined;
  }

  /** Undefined if it was never read. */
  get policy(): VmPolicy | undefined {
    return this.#hasPolicy ? this.#definition.policy : undefined;
  }

  /** What can be read now. */
  describe(): Partial<Pick<Definition, 'config' | 'policy'>> {
    const { config, policy } = this.#definition;
    return { ...(!this.#problem?.config && { config }), ...(!this.#problem?.policy && { policy }) };
  }

  replace({ definition, problem }: StoredDefinition): void {
    const { config, policy } = this.#definition;
    this.#definition = {
      ...definition,
      ...(problem?.config && this.#hasConfig && { config }),
      ...(problem?.policy && this.#hasPolicy && { policy }),
    };
    this.#problem = problem;
    this.#hasConfig ||= !problem?.config;
    this.#hasPolicy ||= !problem?.policy;
  }
}

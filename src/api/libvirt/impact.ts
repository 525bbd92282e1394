/** Whether a change or a question is about the running machine, its definition, or both. */
import type { SupervisedVm } from '../../supervisor/supervisedVm.ts';
import { Code, Domain, invalidOperation, LibvirtError } from './errors.ts';
import { Affect } from './signatures/constants.ts';

export interface Impact {
  readonly live: boolean;
  readonly config: boolean;
}

/**
 * Without a flag it is about the machine if there is one.
 * @throws LibvirtError if it is about a machine, or a definition, and there is none, or none that can be read
 */
export function impactOf(vm: SupervisedVm, flags: number): Impact {
  const asked = flags & (Affect.live | Affect.config);
  const live = asked === 0 ? vm.alive : (asked & Affect.live) !== 0;
  if (live && !vm.alive) throw invalidOperation('domain is not running');
  const config = asked === 0 ? !vm.alive : (asked & Affect.config) !== 0;
  if (config) checkReadable(vm);
  if (config && vm.definition.policy.transient) {
    throw invalidOperation('transient domains do not have any persistent config');
  }
  return { live, config };
}

/** @throws LibvirtError if the definition cannot be read: nothing is shown or changed that stands for it */
export function checkReadable({ definition: { name }, problem }: SupervisedVm): void {
  if (problem === undefined) return;
  throw invalidOperation(`the definition of domain '${name}' is broken: ${problem.reason}`);
}

/** @throws LibvirtError if there are flags that nothing is known of: what was meant would not be done */
export function checkFlags(api: string, flags: number, known: number): void {
  const unknown = (flags & ~known) >>> 0;
  if (unknown === 0) return;
  throw new LibvirtError(
    Code.invalidArgument,
    Domain.domain,
    `unsupported flags (0x${unknown.toString(16)}) in function ${api}`,
  );
}

/** Which domains there are. */

import type { SupervisedVm } from '../../../supervisor/supervisedVm.ts';
import { stateOf } from '../domainState.ts';
import type { Domains } from '../domains.ts';
import { State } from '../domains.ts';
import { Remote } from '../signatures/index.ts';
import { type Procedure, procedure } from './procedure.ts';

/** virConnectListAllDomainsFlags: a domain has to match one of each pair or group of which any is asked for. */
const FILTERS: readonly (readonly {
  readonly bit: number;
  matches(vm: SupervisedVm, domains: Domains): boolean;
}[])[] = [
  [
    { bit: 1, matches: (vm) => vm.alive },
    { bit: 2, matches: (vm) => !vm.alive },
  ],
  [
    { bit: 4, matches: (vm, domains) => domains.isPersistent(vm) },
    { bit: 8, matches: (vm, domains) => !domains.isPersistent(vm) },
  ],
  [
    { bit: 16, matches: (vm) => stateOf(vm).state === State.running },
    { bit: 32, matches: (vm) => stateOf(vm).state === State.paused },
    { bit: 64, matches: (vm) => stateOf(vm).state === State.shutoff },
    { bit: 128, matches: (vm) => stateOf(vm).state === State.shutdown },
  ],
  // No domain has a managed save image, a snapshot or a checkpoint.
  [
    { bit: 256, matches: () => false },
    { bit: 512, matches: () => true },
  ],
  [
    { bit: 1024, matches: (vm) => vm.definition.policy.autostart },
    { bit: 2048, matches: (vm) => !vm.definition.policy.autostart },
  ],
  [
    { bit: 4096, matches: () => false },
    { bit: 8192, matches: () => true },
  ],
  [
    { bit: 16_384, matches: () => false },
    { bit: 32_768, matches: () => true },
  ],
];

export function listDomains(domains: Domains, flags: number): SupervisedVm[] {
  const asked = FILTERS.map((group) => group.filter(({ bit }) => (flags & bit) !== 0)).filter(
    (group) => group.length > 0,
  );
  return domains
    .all()
    .filter((vm) => asked.every((group) => group.some((filter) => filter.matches(vm, domains))));
}

export const lookupProcedures: readonly Procedure[] = [
  procedure(Remote.connectListAllDomains, ({ session: { domains }, args: { need_results, flags } }) => {
    const found = listDomains(domains, flags);
    return { domains: need_results ? found.map((vm) => domains.domOf(vm)) : [], ret: found.length };
  }),
  procedure(Remote.connectNumOfDomains, ({ session }) => ({
    num: listDomains(session.domains, 1).length,
  })),
  procedure(Remote.connectListDomains, ({ session: { domains }, args: { maxids } }) => ({
    ids: listDomains(domains, 1)
      .slice(0, Math.max(maxids, 0))
      .map((vm) => vm.runId as number),
  })),
  procedure(Remote.connectNumOfDefinedDomains, ({ session }) => ({
    num: listDomains(session.domains, 2).length,
  })),
  procedure(Remote.connectListDefinedDomains, ({ session: { domains }, args: { maxnames } }) => ({
    names: listDomains(domains, 2)
      .slice(0, Math.max(maxnames, 0))
      .map((vm) => vm.definition.name),
  })),
  procedure(Remote.domainLookupById, ({ session: { domains }, args }) => ({
    dom: domains.domOf(domains.byId(args.id)),
  })),
  procedure(Remote.domainLookupByName, ({ session: { domains }, args }) => ({
    dom: domains.domOf(domains.byName(args.name)),
  })),
  procedure(Remote.domainLookupByUuid, ({ session: { domains }, args }) => ({
    dom: domains.domOf(domains.byUuid(args.uuid)),
  })),
];
